(function () {
  var root = document.documentElement, button = document.getElementById("language");
  function show(language) {
    root.lang = language;
    button.textContent = language === "ko" ? "English" : "한국어";
    button.lang = language === "ko" ? "en" : "ko";
  }
  var asked = /[#&]lang=(ko|en)/.exec(location.hash);
  show(asked ? asked[1] : root.lang);
  button.addEventListener("click", function () { show(root.lang === "ko" ? "en" : "ko"); });
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (one) { one.open = true; });
  });
})();

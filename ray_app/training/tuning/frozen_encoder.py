"""An encoder that stays as it is while a head learns from it: every text is read once, and what was made of it is kept.

In: ids and mask, as any encoder. Out: its states. Those of training texts are kept in half precision, those of
validation texts as they are, both in files that the operating system holds in memory as long as there is room.
"""

import logging
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK = 1 << 26  # bytes of a file
LEFT = 0.5  # of the disk's free space, that is not used
LARGEST = float(np.finfo(np.float16).max)
log = logging.getLogger(__name__)


class KeptStates:
    """Rows of states [tokens, hidden] by a text's token ids, in files of a folder. `room`: bytes it may take."""

    def __init__(self, folder: Path, kind: type[np.floating], hidden: int, room: int) -> None:
        self.folder, self.kind, self.hidden, self.room = folder, np.dtype(kind), hidden, room
        self.places: dict[bytes, tuple[int, int, int]] = {}
        self.chunks: list[NDArray[np.floating]] = []
        self.used = 0  # rows of the last chunk
        self.full = False

    def get(self, key: bytes) -> NDArray[np.floating] | None:
        """What was kept, None where nothing was."""
        place = self.places.get(key)
        return None if place is None else self.chunks[place[0]][place[1] : place[2]]

    def as_kept(self, states: NDArray[np.floating]) -> NDArray[np.floating]:
        """States as they will be read: the first time they are, too."""
        return states.clip(-LARGEST, LARGEST).astype(self.kind)

    def put(self, key: bytes, states: NDArray[np.floating]) -> None:
        """Keeps states, as long as there is room; says so once where there is none."""
        if key in self.places:
            return
        if not self.chunks or self.used + len(states) > len(self.chunks[-1]):
            rows = max(len(states), CHUNK // (self.hidden * self.kind.itemsize))
            size = rows * self.hidden * self.kind.itemsize
            if size > self.room:
                if not self.full:
                    log.warning("--tune head: no room for more states in %s: more texts are read anew", self.folder)
                self.full = True
                return
            self.room -= size
            path = self.folder / f"{self.kind}-{len(self.chunks)}"
            self.chunks.append(np.memmap(path, self.kind, "w+", shape=(rows, self.hidden)))
            self.used = 0
        chunk = self.chunks[-1]
        chunk[self.used : self.used + len(states)] = states
        self.places[key] = (len(self.chunks) - 1, self.used, self.used + len(states))
        self.used += len(states)


class FrozenEncoder(nn.Module):
    """Stands for an encoder in a model whose head alone trains.

    Args:
        pooling: what the head reads: `keywords` every state; of `first` and `mean` one vector per text is kept, which
            stands at every token.
    """

    def __init__(self, encoder: "PreTrainedModel", pooling: str) -> None:
        super().__init__()
        self.encoder, self.config, self.pooling = encoder.requires_grad_(False).eval(), encoder.config, pooling
        self.folder = tempfile.TemporaryDirectory(prefix="nunchi-states-")
        folder, hidden = Path(self.folder.name), int(encoder.config.hidden_size)
        room = int(shutil.disk_usage(folder).free * LEFT / 2)
        self.learned = KeptStates(folder, np.float16, hidden, room)
        self.judged = KeptStates(folder, np.float32, hidden, room)

    def train(self, mode: bool = True) -> "FrozenEncoder":
        """The encoder itself is never in training: without dropout it makes the same of a text every time."""
        super().train(mode)
        self.encoder.eval()
        return self

    @torch.no_grad()
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        """`last_hidden_state` [texts, length, hidden]."""
        store = self.learned if self.training else self.judged
        lengths = attention_mask.sum(1).tolist()
        rows = input_ids.cpu().numpy()
        keys = [row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]
        known = [store.get(key) for key in keys]
        missing = [i for i, one in enumerate(known) if one is None]
        read = iter(self._encoded(input_ids[missing], attention_mask[missing]) if missing else ())
        states = [store.as_kept(next(read)) if one is None else one for one in known]
        for i in missing:
            store.put(keys[i], states[i])
        made = np.zeros((*rows.shape, self.config.hidden_size), np.float32)
        for row, one in zip(made, states, strict=True):
            row[: len(one) if self.pooling == "keywords" else None] = one
        return SimpleNamespace(last_hidden_state=torch.from_numpy(made).to(input_ids.device))

    def _encoded(self, ids: Tensor, mask: Tensor) -> list[NDArray[np.floating]]:
        """Per text [tokens, hidden], or the one vector [1, hidden] that the head reads."""
        longest = int(mask.sum(1).max())
        ids, mask = ids[:, :longest], mask[:, :longest]
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        if self.pooling == "first":
            states = states[:, :1]
        if self.pooling == "mean":
            weight = mask.unsqueeze(-1).to(states.dtype)
            states = (states * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        lengths = mask.sum(1).tolist() if self.pooling == "keywords" else [1] * len(mask)
        return [one[:length] for one, length in zip(states.cpu().numpy(), lengths, strict=True)]

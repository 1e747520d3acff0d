"""The body of a request on its way through the door, unread. In: two streams and a length. Out: nothing, or why not."""

import asyncio
import itertools

from ray_app.serving.door.http_head import BadRequestError, chunk_size

PIECE = 65_536
CHUNKS, CHUNK_BYTES = 5_000, 64  # a body of more chunks, each so small on average, costs more than it says


async def pass_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int, seconds: float) -> None:
    """Passes a body on: `length` bytes, or where that is negative chunks until the empty one.

    Args:
        seconds: between two pieces, until TimeoutError.

    Raises BadRequestError for malformed chunks, IncompleteReadError where the client is gone.
    """
    await _pass_bytes(reader, writer, length, seconds)
    total = 0
    for number in itertools.count() if length < 0 else ():
        line = await _line(reader, seconds)
        chunk = chunk_size(line)
        writer.write(line)
        await _pass_bytes(reader, writer, chunk, seconds)
        end = await _line(reader, seconds)
        total += chunk
        if end != b"\r\n" or (number > CHUNKS and total < number * CHUNK_BYTES):  # trailers too: nobody reads them
            raise BadRequestError(400, "a chunk of the body is malformed, or there are too many")
        writer.write(end)
        if not chunk:
            return


async def _pass_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int, seconds: float) -> None:
    while length > 0:
        async with asyncio.timeout(seconds):
            piece = await reader.read(min(length, PIECE))
        if not piece:
            raise asyncio.IncompleteReadError(b"", length)
        writer.write(piece)
        await writer.drain()
        length -= len(piece)


async def _line(reader: asyncio.StreamReader, seconds: float) -> bytes:
    """A line between chunks."""
    try:
        async with asyncio.timeout(seconds):
            return await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        raise BadRequestError(400, "a chunk of the body is malformed") from None

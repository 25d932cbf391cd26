"""How a desk keeps up: time from the message of a fader to its first changed sound, reserve and memory.

Pretends to be the page: opens the socket of `lincae desk`, plays in real time, and moves faders. `move_ms`: until the
changed sound is there, for the worklet; `heard_ms`: until the first frame that it changes is played. A recorded move
begins one latent frame later.

python bench/desk.py
"""

from __future__ import annotations

import asyncio
import json
import statistics
import struct
import subprocess
import time
from pathlib import Path

from common import Figures, parser, random_lat, scratch, show

HEADER = struct.Struct("<IIQQIIII")
RATE = 44100
FRAME = 4096
SETUPS = [(4, 600, False), (4, 600, True), (32, 600, False), (32, 3600, False)]  # stereo tracks, s, recording


def resident(pid: int) -> float:
    """Peak memory of a process, MB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1000
    return float("nan")


async def listen(address: str, moves: int, record: bool) -> Figures:
    """Plays and moves a fader every 0.7 s."""
    from websockets.asyncio.client import connect

    origin = "/".join(address.split("/")[:3])
    delays: list[float] = []
    heard: list[float] = []
    gaps, reserve, first = 0, [], 0.0
    async with connect(address.replace("http", "ws", 1) + "socket", origin=origin, max_size=2**24) as socket:
        welcome = json.loads(await socket.recv())
        names = [name for name, member in welcome["members"].items() if member["kind"] == "track"]
        await socket.send(json.dumps({"do": "record", "on": record}))
        began = time.perf_counter()
        await socket.send(json.dumps({"do": "play", "at": 20.0, "generation": 1}))
        start, end, sent, told, asked = 0.0, 0, 0, 0.0, 0.0
        while len(delays) < moves and time.perf_counter() - began < 60:
            now = time.perf_counter()
            played = max(0, round((now - start) * RATE)) if start else 0
            if start and played > end:  # what a page would hear as a gap
                gaps, start, played = gaps + 1, now - end / RATE, end
            if now - told > 0.025:
                await socket.send(json.dumps({"do": "heard", "generation": 1, "samples": played}))
                told = now
            if start and now - start > 2 and sent == len(delays) and now - asked > 0.7:
                sent, asked = sent + 1, now
                level = -6.0 if sent % 2 else 0.0
                name = names[sent % len(names)]
                move = {"do": "move", "id": sent, "name": name, "key": "level", "value": level}
                await socket.send(json.dumps(move))
            try:
                data = await asyncio.wait_for(socket.recv(), 0.01)
            except TimeoutError:
                continue
            if isinstance(data, str):
                word = json.loads(data)
                if word["type"] == "reserve":
                    reserve.append(word["times"])
                continue
            _, move_id, stream, _, _, count, _, _ = HEADER.unpack(data[: HEADER.size])
            end = stream + count
            if not start and end > 12288:
                start, first = time.perf_counter(), time.perf_counter() - began
            if move_id > len(delays):
                delays.append(time.perf_counter() - asked)
                heard.append((stream + FRAME * record) / RATE + start - asked)
    return {
        "first_sound_ms": round(1000 * first),
        "move_ms": {"median": round(1000 * statistics.median(delays)), "most": round(1000 * max(delays))},
        "heard_ms": {"median": round(1000 * statistics.median(heard)), "most": round(1000 * max(heard))},
        "moves": len(delays),
        "reserve": round(statistics.median(reserve), 1) if reserve else None,
        "gaps": gaps,
    }


def main() -> None:
    options = parser(__doc__)
    a = options.parse_args()
    figures: Figures = {}
    with scratch() as (folder, environment):
        for tracks, seconds, record in SETUPS[:2] if a.quick else SETUPS:
            lat = folder / f"{seconds}.lat"
            if not lat.exists():
                random_lat(lat, 30 if a.quick else seconds, a.model, channels=2)
            files = [folder / f"{seconds}-{i}.lat" for i in range(tracks)]
            for file in files:
                if not file.exists():
                    file.hardlink_to(lat)
            command = [a.lincae, "desk", *map(str, files), "--no-browser", "-o", str(folder / "mix.yaml"), "--force"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
            try:
                assert process.stdout is not None
                address = process.stdout.readline().strip()
                found = asyncio.run(listen(address, 3 if a.quick else 20, record))
                found["peak_mb"] = round(resident(process.pid))
            finally:
                process.terminate()
                process.wait(timeout=60)
            figures[f"{tracks} stereo tracks of {seconds} s{', recording' if record else ''}"] = found
    show(figures, a)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Longleaf beside llama.cpp, OpenVINO GenAI and transformers: same GGUF files, same threads, same random token ids.

    python3 bench/peers/peers.py MODEL.gguf...              set up, measure, write a table and a JSON file
    python3 bench/peers/peers.py --setup-only               only make the environment (target/peers/venv)
    python3 bench/peers/peers.py MODEL.gguf --engines longleaf,llama.cpp --prefill 2048 --depth 0 --rounds 5

Needs Python 3.10, a C++ compiler and cmake's wheel for llama.cpp, and a built `longleaf` (`cargo build --release`).
Every measurement is a process of its own; the engines take turns in every round, each round starting with another one;
reported are medians. README.md says what is measured and what was found out about each engine's settings.
"""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = ROOT / "target" / "peers"
LLAMA_CPP_PYTHON = "0.3.36"
# the settings tried of each engine; a cell's peer is the best of them
MODES = {
    "longleaf": ["dense", "dense,fast"],
    "llama.cpp": ["fa=1,ubatch=512", "fa=0,ubatch=512", "fa=1,ubatch=2048", "fa=0,ubatch=2048"],
    "openvino": ["PA", "SDPA"],
    "torch": ["bf16", "f32", "f32-bf16math", "int8"],
}
WORKERS = {"llama.cpp": "worker_llama_cpp.py", "openvino": "worker_openvino.py", "torch": "worker_torch.py"}


def cpu():
    """Model name and the instruction sets that matter here, as Linux tells them."""
    text = pathlib.Path("/proc/cpuinfo").read_text()
    fields = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    fields = {k.strip(): v.strip() for k, v in fields.items()}
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    known = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16", "asimddp", "i8mm"]
    return fields.get("model name", platform.machine()), [f for f in known if f in flags]


def llama_cpp_build():
    """Compiler and flags for llama.cpp, and why.

    Built with gcc 12, its AMX code dies of an illegal instruction on machines that have AMX: there we take clang, or
    else leave AMX out, and say so in the results."""
    _, sets = cpu()
    gcc = subprocess.run(["gcc", "-dumpversion"], capture_output=True, text=True).stdout.strip() if shutil.which("gcc") else ""
    if "amx_int8" not in sets or (gcc and int(gcc.split(".")[0]) > 12):
        return {}, f"gcc {gcc}, the machine's instruction sets"
    if shutil.which("clang++"):
        return {"CC": "clang", "CXX": "clang++"}, "clang, with AMX"
    off = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
    return {"CFLAGS": off, "CXXFLAGS": off}, f"gcc {gcc}, without AMX (gcc 12 miscompiles it)"


def setup(python):
    venv = python.parent.parent
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", HERE / "requirements.txt"], check=True)
    settings, why = llama_cpp_build()
    print(f"llama.cpp is built from source: {why}", file=sys.stderr)
    subprocess.run([*pip, "--no-binary", "llama-cpp-python", f"llama-cpp-python=={LLAMA_CPP_PYTHON}"], check=True,
                   env=os.environ | settings)


def converted(model, python):
    """torch's copy of the model: dequantised once, by a process of its own."""
    folder = WORK / "converted" / pathlib.Path(model).stem
    if not (folder / "config.json").exists():
        with tempfile.TemporaryDirectory(dir=WORK) as fresh:
            subprocess.run([python, HERE / "convert_torch.py", model, f"{fresh}/model"], check=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(f"{fresh}/model", folder)
    return str(folder)


def command(engine, mode, model, a):
    points = ["--threads", str(a.threads), "--prefill", a.prefill, "--depth", a.depth, "--decode", str(a.decode)]
    if engine == "longleaf":
        attention, *precision = mode.split(",")
        precision = [word for name in precision for word in ("--precision", name)]
        return [a.longleaf, "bench", "-m", model, "--json", "--attention", attention, *precision, "--repeat", "1", *points]
    source = converted(model, a.python) if engine == "torch" else model
    return [str(a.python), str(HERE / WORKERS[engine]), "--model", source, "--mode", mode, *points]


def run(argv, limit):
    """JSON lines of a child, its peak RSS in bytes, and None or what went wrong."""
    with tempfile.TemporaryFile() as talk:
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=talk, start_new_session=True)
        late = threading.Event()

        def stop():
            late.set()
            os.killpg(child.pid, signal.SIGKILL)

        timer = threading.Timer(limit, stop)
        timer.start()
        out = child.stdout.read().decode()
        _, status, usage = os.wait4(child.pid, 0)
        timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        talk.seek(0)
        last = (talk.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    fault = "time limit" if late.is_set() else f"exit {child.returncode}: {last}" if child.returncode else None
    # ru_maxrss is in KiB on Linux, in bytes on macOS
    return lines, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), fault


def measure(a):
    turns = [(m, e, mode) for m in a.models for e in a.engines for mode in a.modes.get(e, MODES[e])]
    results = {t: {"cells": {}, "rss": [], "fault": None} for t in turns}
    loads = []
    for r in range(a.rounds):
        shift = r * len(turns) // a.rounds
        for turn in turns[shift:] + turns[:shift]:
            model, engine, mode = turn
            result = results[turn]
            if result["fault"]:
                continue
            load = os.getloadavg()[0]
            loads.append(load)
            lines, rss, result["fault"] = run(command(engine, mode, model, a), a.limit)
            said = []
            for line in lines:
                key = f"{line['phase']} {line['tokens'] if line['phase'] == 'prefill' else line['depth']}"
                result["cells"].setdefault(key, []).append(line["tokens_per_s"])
                said.append(f"{key}: {line['tokens_per_s']:.1f}")
            result["rss"].append(rss)
            print(f"round {r + 1} {pathlib.Path(model).name} {engine} {mode} (load {load:.1f}): {', '.join(said)}"
                  f"{'; ' + result['fault'] if result['fault'] else ''}", file=sys.stderr, flush=True)
    return results, loads


def describe(a, loads):
    name, sets = cpu()
    versions = subprocess.run(
        [a.python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"], capture_output=True, text=True)
    wanted = {"torch", "transformers", "openvino-genai", "llama_cpp_python", "llama-cpp-python"}
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return {
        "date": datetime.date.today().isoformat(), "cpu": name, "instruction_sets": sets, "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "kernel": platform.release(),
        "python": platform.python_version(), "longleaf": commit.stdout.strip(), "threads": a.threads, "rounds": a.rounds,
        "load_before_each_run": {"median": statistics.median(loads), "highest": max(loads)},
        "versions": {p["name"]: p["version"] for p in json.loads(versions.stdout or "[]") if p["name"] in wanted},
        "llama_cpp_build": llama_cpp_build()[1],
        "models": {pathlib.Path(m).name: sha256(m) for m in a.models},
    }


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def table(machine, rows, a):
    keys = [f"prefill {n}" for n in a.prefill.split(",") if n] + [f"decode {n}" for n in a.depth.split(",") if n]
    out = [
        f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['instruction_sets'])}), "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB, Linux {machine['kernel']}; {machine['date']}; "
        f"{machine['threads']} threads, median of {machine['rounds']}; load before a run: median "
        f"{machine['load_before_each_run']['median']:.1f}, highest {machine['load_before_each_run']['highest']:.1f}. "
        f"Longleaf {machine['longleaf']}; " + ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
        + f"; llama.cpp built with {machine['llama_cpp_build']}.", ""]
    for model in a.models:
        name = pathlib.Path(model).name
        mine = [r for r in rows if r["model"] == name]
        out += [f"### {name}", "", "| tokens/s | " + " | ".join(f"{k.split()[0]} {int(k.split()[1]):,}" if "prefill" in k
                else f"decode at {int(k.split()[1]):,}" for k in keys) + " | peak RSS |", "|---" * (len(keys) + 2) + "|"]
        for r in mine:
            cells = [f"{r['median'][k]:.4g}" if k in r["median"] else "–" for k in keys]
            note = f" ({r['fault']})" if r["fault"] else ""
            out.append(f"| {r['engine']} {r['mode']}{note} | " + " | ".join(cells) + f" | {r['peak_rss_bytes'] / 2**20:.0f} MiB |")
        def best(rows, key):
            return max((r["median"][key] for r in rows if key in r["median"]), default=None)

        own, others = ([r for r in mine if (r["engine"] == "longleaf") == us] for us in (True, False))
        pairs = [(best(own, k), best(others, k)) for k in keys]
        if own and others:
            out.append("| **longleaf : best peer** | " + " | ".join(
                f"**{x / y:.2f}**" if x and y else "–" for x, y in pairs) + " | |")
        out.append("")
    return "\n".join(out)


def arguments():
    p = argparse.ArgumentParser(description="measure Longleaf beside its peers")
    p.add_argument("models", nargs="*")
    p.add_argument("--engines", default=",".join(MODES), help="comma-separated, of: " + ", ".join(MODES))
    p.add_argument("--mode", action="append", default=[], metavar="ENGINE:MODE", help="measure this mode instead of all")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--prefill", default="512,2048,8192")
    p.add_argument("--depth", default="0,8192")
    p.add_argument("--decode", type=int, default=32)
    p.add_argument("--limit", type=float, default=900, help="seconds a process may take")
    p.add_argument("--longleaf", default=str(ROOT / "target" / "release" / "longleaf"))
    p.add_argument("--venv", type=pathlib.Path, default=WORK / "venv", help="used as it is if it exists")
    p.add_argument("--out", type=pathlib.Path, default=WORK / "results")
    p.add_argument("--setup-only", action="store_true")
    a = p.parse_args()
    a.engines = [e for e in a.engines.split(",") if e]
    if unknown := set(a.engines) - set(MODES):
        p.error(f"unknown engine: {', '.join(sorted(unknown))}")
    a.modes = {}
    for one in a.mode:
        engine, mode = one.split(":", 1)
        a.modes.setdefault(engine, []).append(mode)
    a.python = a.venv / "bin" / "python"
    if not a.models and not a.setup_only:
        p.error("name at least one GGUF file")
    return a


def main():
    a = arguments()
    WORK.mkdir(parents=True, exist_ok=True)
    if not a.python.exists() or a.setup_only:
        setup(a.python)
    if a.setup_only:
        return
    if "torch" in a.engines:
        for model in a.models:
            converted(model, a.python)
    results, loads = measure(a)
    machine = describe(a, loads)
    rows = [{
        "model": pathlib.Path(model).name, "engine": engine, "mode": mode,
        "median": {k: statistics.median(v) for k, v in r["cells"].items()}, "runs": r["cells"],
        "peak_rss_bytes": max(r["rss"], default=0), "fault": r["fault"],
    } for (model, engine, mode), r in results.items()]
    text = table(machine, rows, a)
    a.out.mkdir(parents=True, exist_ok=True)
    stem = a.out / f"peers-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    stem.with_suffix(".json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    stem.with_suffix(".md").write_text(text + "\n")
    print(text)
    print(f"written: {stem}.md, {stem}.json", file=sys.stderr)


if __name__ == "__main__":
    main()

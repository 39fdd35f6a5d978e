"""The clients: each a function of an export folder and a work folder that yields what it found,
and fails an assertion if the client does not answer as it must.
"""

import ctypes.util
import json
import os
import shutil
import subprocess
import venv
from pathlib import Path

import android
import web
from browser import PROGRAMS, program

HERE = Path(__file__).resolve().parent
LITERT = "ai-edge-litert==2.3.0"
SWIFTSHADER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")


class Missing(Exception):
    """A program of the system is missing."""


def python(export, work):
    """The Python bundle, and the golden set's own check, without TensorFlow."""
    run = _environment(work / "env-litert", LITERT, "pillow")
    yield from _lines([run, export / "bundle_python" / "classify.py", "--check"])
    learning = work / "export-trainable" / "bundle_python" / "classify.py"
    new = sorted((work / "new").iterdir())
    yield from _lines([run, learning, "--teach", "new thing", *new[:20]])
    answers = _lines([run, learning, "--top", "1", *new[20:]])
    assert all("new thing" in line for line in answers), answers
    yield f"recognizes {len(answers)} of {len(answers)} other photos"
    _lines([run, learning, "--check", "--forget"])
    yield from _lines([run, export / "golden" / "check.py"])
    yield from _lines([run, work / "export-uint8" / "golden" / "check.py"])


def compiled_model(export, work):
    """LiteRT's newer interface, on the CPU."""
    run = _environment(work / "env-litert", LITERT, "pillow")
    yield from _lines([run, HERE / "inside" / "compiled_model.py", export, "cpu"])


def mediapipe(export, work):
    """MediaPipe Tasks, which reads labels and normalization out of the file."""
    run = _environment(work / "env-mediapipe", "mediapipe")
    for folder in (export, work / "export-uint8"):
        yield from _lines([run, HERE / "inside" / "mediapipe_labels.py", folder])


def page(export, work):
    """The web bundle in a browser."""
    if program() is None:
        raise Missing(f"none of {', '.join(PROGRAMS)}; apt install chromium")
    bundle = export / "bundle_web"
    if not (bundle / "litert").exists():
        _need("npm", "nodejs npm")
        _lines(["npm", "install", "--silent"], cwd=bundle)
    yield from web.prove(export, work)
    learning = work / "export-trainable" / "bundle_web"
    if not (learning / "litert").exists():
        shutil.copytree(bundle / "litert", learning / "litert")
    golden = json.loads((learning / "golden" / "golden.json").read_text())["images"]
    known = [(learning / "golden" / row["file"], row["predicted"]) for row in golden]
    yield from web.prove_learning(learning, sorted((work / "new").iterdir()), known, work)


def c(export, work):
    """The C bundle, built against the library of the wheel."""
    _need("cmake", "cmake gcc")
    run = _environment(work / "env-litert", LITERT, "pillow")
    build, bundle = work / "c-build", export / "bundle_c"
    _lines(["cmake", "-S", bundle, "-B", build, f"-DPython3_EXECUTABLE={run}"])
    _lines(["cmake", "--build", build])
    yield from _repeated(_lines([build / "classify", bundle, "--check"]))
    yield from _lines([build / "classify", bundle, next((bundle / "golden").glob("*_photo.ppm"))])


def kotlin(export, work):
    """The Android bundle's Kotlin."""
    _need("java", "default-jre-headless")
    run = _environment(work / "env-kotlin", "--no-deps", "kotlin-jupyter-kernel")
    (jars,) = run.parents[1].glob("lib/python*/site-packages/run_kotlin_kernel/jars")
    yield from android.prove(export, work, jars)


def arm64(export, work):
    """The Python bundle on a 64-bit Arm processor, under qemu."""
    _need("mmdebstrap", "mmdebstrap")
    _need("qemu-aarch64-static", "qemu-user-static")
    root = work / "arm64"
    if not (root / "ready").exists():
        shutil.rmtree(root, ignore_errors=True)
        _make_arm_root(root, _environment(work / "env-litert", LITERT, "pillow"))
    shutil.rmtree(root / "export", ignore_errors=True)
    shutil.copytree(export, root / "export")
    enter = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
    # -cpu max has instructions that XNNPACK takes for another processor's.
    emulate = ["chroot", root, "/usr/bin/qemu-aarch64-static", "-cpu", "cortex-a76",
               "-E", "PYTHONPATH=/site", "/usr/bin/python3.11"]  # fmt: skip
    machine = "import platform; print(platform.machine())"
    yield from _lines([*enter, *emulate, "-c", machine])
    yield from _repeated(_lines([*enter, *emulate, "/export/bundle_python/classify.py", "--check"]))
    yield from _repeated(_lines([*enter, *emulate, "/export/golden/check.py"]))


def gpu(export, work):
    """LiteRT's GPU accelerator on SwiftShader, a Vulkan device made of software."""
    if not (SWIFTSHADER.exists() and ctypes.util.find_library("vulkan")):
        raise Missing(f"no {SWIFTSHADER}, or no libvulkan; apt install chromium libvulkan1")
    run = _environment(work / "env-litert", LITERT, "pillow")
    lines = _lines(
        [run, HERE / "inside" / "compiled_model.py", export, "gpu"],
        env=os.environ | {"VK_ICD_FILENAMES": str(SWIFTSHADER)},
    )
    yield from (line for line in lines if not line.startswith("INFO"))


CLIENTS = {
    "python": python,
    "compiled-model": compiled_model,
    "mediapipe": mediapipe,
    "web": page,
    "c": c,
    "kotlin": kotlin,
    "arm64": arm64,
    "gpu": gpu,
}


def _repeated(lines):
    """The lines of a check, which must say that the int8 file answers bit for bit as exported."""
    assert any("same as at export" in line for line in lines), lines
    return lines


def _need(tool, packages):
    if shutil.which(tool) is None:
        raise Missing(f"no {tool}; apt install {packages}")


def _environment(folder, *requirements):
    """The Python of an environment that holds these and nothing else."""
    run = folder / "bin" / "python"
    done = folder / "ready.json"
    if not done.exists():
        venv.create(folder, clear=True, with_pip=True)
        _pip(run, "install", *requirements)
        done.write_text(json.dumps(requirements))
    return run


def _pip(run, *arguments):
    _lines([run, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments])


def _lines(command, **options):
    """What a command prints on stdout; an assertion fails if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{Path(command[0]).name}: {done.stdout}{done.stderr}"[-2000:]
    return done.stdout.splitlines()


def _make_arm_root(root, run):
    """Debian's Python and LiteRT's wheels for Arm; nothing is executed while it is made."""
    _lines(["mmdebstrap", "--variant=extract", "--architectures=arm64",
            "--include=python3-minimal,libpython3.11-stdlib,libstdc++6,libgcc-s1,libuuid1",
            "bookworm", root])  # fmt: skip
    platforms = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
    _pip(run, "install", LITERT, "pillow", "--target", root / "site", "--only-binary=:all:",
         "--python-version=3.11", *(f"--platform={name}" for name in platforms))  # fmt: skip
    shutil.copy(shutil.which("qemu-aarch64-static"), root / "usr" / "bin")
    # XNNPACK chooses its kernels by what Linux says of the processor: that of the host is no Arm.
    (root / "proc").mkdir(exist_ok=True)
    shutil.copy(HERE / "inside" / "cpuinfo_cortex_a76", root / "proc" / "cpuinfo")
    processors = root / "sys" / "devices" / "system" / "cpu"
    processors.mkdir(parents=True)
    for name in ("possible", "present"):
        (processors / name).write_text("0\n")
    (root / "ready").touch()

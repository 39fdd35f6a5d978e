"""The Android bundle: all of its Kotlin compiled against stubs, and the test of the resize run.

No Android SDK, no APK, no phone: this proves the Kotlin, and the resize, and nothing about LiteRT.
The compiler comes out of PyPI's kotlin-jupyter-kernel.
"""

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMPILER = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"


def prove(export, work, jars):
    """Lines that say what was found.

    Args:
        export: an export folder with bundle_android/ and golden/.
        work: a folder to compile into.
        jars: the folder with the compiler's jars.
    """
    bundle = export / "bundle_android" / "app" / "src"
    stubs = sorted((HERE / "kotlin" / "stubs").glob("*.kt"))
    app = sorted(bundle.rglob("*.kt"))
    classes = work / "android-classes"
    shutil.rmtree(classes, ignore_errors=True)
    _compile([*stubs, *app, HERE / "kotlin" / "RunPreprocessTest.kt"], classes, jars)
    yield f"{len(app)} Kotlin files of the app and its tests compile against stubs"
    _compile([*stubs, export / "golden" / "GoldenTest.kt"], work / "golden-classes", jars)
    yield "golden/GoldenTest.kt compiles against stubs"
    path = f"{classes}:{bundle / 'test' / 'resources'}:{_jar(jars, 'kotlin-stdlib')}"
    done = subprocess.run(
        ["java", "-cp", path, "RunPreprocessTestKt"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    yield from done.stdout.splitlines()
    yield "PreprocessTest passes on a Java machine"


def _compile(sources, target, jars):
    done = subprocess.run(
        ["java", "-cp", f"{jars}/*", COMPILER, "-no-stdlib", "-no-reflect",
         "-classpath", _jar(jars, "kotlin-stdlib"), "-d", target, *sources],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def _jar(jars, name):
    return next(jars.glob(f"{name}-[0-9]*.jar"))

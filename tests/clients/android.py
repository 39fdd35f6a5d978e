"""The Android bundle: its Kotlin compiled against stubs, and the tests run that need no phone.

No Android SDK, no APK, no phone: this proves the Kotlin, the resize, the drawn area, the fraction
at which photos are decoded, and the fallback from GPU to CPU, and nothing about LiteRT. The
compiler comes out of PyPI's kotlin-jupyter-kernel.
"""

import re
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
    resources = work / "R.kt"
    resources.write_text(resource_class(bundle / "main" / "res"))
    tests = sorted((HERE / "kotlin").glob("*.kt"))
    _compile([*stubs, resources, *app, *tests], classes, jars)
    yield f"{len(app)} Kotlin files of the app and its tests compile against stubs"
    _compile([*stubs, export / "golden" / "GoldenTest.kt"], work / "golden-classes", jars)
    yield "golden/GoldenTest.kt compiles against stubs"
    path = f"{classes}:{bundle / 'test' / 'resources'}:{_jar(jars, 'kotlin-stdlib')}"
    done = subprocess.run(["java", "-cp", path, "RunTestsKt"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    yield from done.stdout.splitlines()
    yield "Tests of preprocessing, area, photo, engine and learner pass on a Java machine"


def resource_class(folder):
    """What Gradle makes of the files in res/: the Kotlin of the object R."""
    names = {}
    for path in sorted(folder.rglob("*.xml")):
        kind, text = path.parent.name.split("-")[0], path.read_text(encoding="utf-8")
        if kind == "values":
            found = re.findall(r'<(string|plurals|color|dimen) name="(\w+)"', text)
        else:
            ids = re.findall(r'"@\+id/(\w+)"', text)
            found = [(kind, path.stem), *(("id", name) for name in ids)]
        for kind, name in found:
            names.setdefault(kind, set()).add(name)
    lines = ["package org.example.classifier", "object R {"]
    for kind, members in names.items():
        lines.append(f"  object {kind} {{")
        lines += [f"    const val {name} = {i}" for i, name in enumerate(sorted(members), 1)]
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


def _compile(sources, target, jars):
    done = subprocess.run(
        ["java", "-cp", f"{jars}/*", COMPILER, "-no-stdlib", "-no-reflect",
         "-classpath", _jar(jars, "kotlin-stdlib"), "-d", target, *sources],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def _jar(jars, name):
    return next(jars.glob(f"{name}-[0-9]*.jar"))

"""The Android project of the bundle, read as Android Studio would: no Android SDK is needed.

`make clients` compiles its Kotlin.
"""

import re
import tomllib
from collections import defaultdict
from xml.etree import ElementTree

import pytest

from keras_resnet.exporting import bundling, templates

ANDROID = "{http://schemas.android.com/apk/res/android}"
APP = "app/src/main"
PACKAGE = f"{APP}/kotlin/org/example/classifier"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project without the files of a model."""
    folder = tmp_path_factory.mktemp("android")
    templates.copy("android", folder, defaultdict(lambda: "1", network="resnet8"))
    return folder


@pytest.fixture(scope="module")
def kotlin(project):
    """All Kotlin of the app, without comments and tests."""
    text = "\n".join(path.read_text() for path in sorted((project / PACKAGE).glob("*.kt")))
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def catalog(project):
    return tomllib.loads((project / "gradle/libs.versions.toml").read_text())


def elements(project, pattern):
    """(file name, XML element) of all files that match below app/src/main."""
    for path in sorted((project / APP).glob(pattern)):
        for element in ElementTree.parse(path).iter():
            yield path.name, element


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("app/build.gradle.kts", r"minSdk = 24\b"),
        ("app/build.gradle.kts", r"compileSdk = 36\b"),
        ("app/build.gradle.kts", r"targetSdk = 36\b"),
        ("app/build.gradle.kts", r'noCompress \+= "tflite"'),
        ("app/build.gradle.kts", r"implementation\(libs\.litert\)"),
        ("app/build.gradle.kts", r"implementation\(libs\.litert\.gpu\)"),
        ("app/build.gradle.kts", r"release \{\s+isMinifyEnabled = true\s+isShrinkResources = true"),
        ("app/build.gradle.kts", r'proguardFiles\(.*"proguard-rules\.pro"\)'),
        ("app/build.gradle.kts", r'debug key.*\n\s+signingConfig = .*"debug"'),
        ("app/proguard-rules.pro", r"-keep class com\.google\.ai\.edge\.litert\.\*\* \{ \*; \}"),
        ("build.gradle.kts", r"alias\(libs\.plugins\.android\.application\) apply false"),
        ("settings.gradle.kts", r'include\(":app"\)'),
        ("gradle.properties", r"android\.useAndroidX=true"),
        ("gradle/wrapper/gradle-wrapper.properties", r"distributionUrl=.*/gradle-9\.6\.1-bin\.zip"),
        ("gradle/wrapper/gradle-wrapper.properties", r"distributionSha256Sum=[0-9a-f]{64}\n"),
        ("README.md", r"gradle wrapper"),
        (f"{APP}/res/mipmap-anydpi-v26/ic_launcher.xml", r"<adaptive-icon"),
        (f"{APP}/res/layout/activity_main.xml", r'PreviewView[^>]*app:scaleType="fitCenter"'),
        (f"{PACKAGE}/MainActivity.kt", r"ActivityResultContracts\.PickVisualMedia\(\)"),
        (f"{PACKAGE}/Classifier.kt", r"CompiledModel\.Options\(accelerator\)"),
        (f"{PACKAGE}/Settings.kt", r"\.commit\(\)"),
    ],
)
def test_the_project_has_what_an_app_needs(project, file, wanted):
    assert re.search(wanted, (project / file).read_text())


@pytest.mark.parametrize(
    "unwanted",
    [
        "org.jetbrains.kotlin.android",  # the Android plugin 9 refuses it
        "kotlinOptions",
        "jcenter",
        "org.tensorflow",
        "android.hardware.Camera",
        "setTargetAspectRatio",
        "setTargetResolution",
        "startActivityForResult",
        "onActivityResult",
        "requestPermissions",
        "ACTION_GET_CONTENT",
        "AsyncTask",
        "createScaledBitmap",
        "catch (error: Exception)",  # a picture for which the memory is too small is an Error
        "READ_EXTERNAL_STORAGE",
        "READ_MEDIA_IMAGES",
        "INTERNET",
    ],
)
def test_nothing_deprecated_or_needless_is_used(project, kotlin, unwanted):
    gradle = [path.read_text() for path in project.rglob("*.kts")]
    manifest = (project / APP / "AndroidManifest.xml").read_text()
    assert all(unwanted not in text for text in (*gradle, manifest, kotlin))


def test_the_camera_is_the_only_permission_and_is_not_required(project):
    found = list(elements(project, "AndroidManifest.xml"))
    permissions = [e.get(f"{ANDROID}name") for _, e in found if e.tag == "uses-permission"]
    assert permissions == ["android.permission.CAMERA"]
    features = [e for _, e in found if e.tag == "uses-feature"]
    # The permission implies the last two: without them, stores hide the app from some devices.
    assert [e.get(f"{ANDROID}name").removeprefix("android.hardware.camera") for e in features] == [
        ".any", "", ".autofocus",
    ]  # fmt: skip
    assert {e.get(f"{ANDROID}required") for e in features} == {"false"}


def test_every_activity_of_the_manifest_is_a_class(project):
    activities = [
        element.get(f"{ANDROID}name").removeprefix(".")
        for _, element in elements(project, "AndroidManifest.xml")
        if element.tag == "activity"
    ]
    assert activities == ["MainActivity", "LicensesActivity"]
    for name in activities:
        text = (project / PACKAGE / f"{name}.kt").read_text()
        assert f"class {name} : ComponentActivity()" in text


def resources(project):
    """Those that the files in res/ define: {(kind, name)}."""
    files = (project / APP / "res").glob("*/*.xml")
    found = {(path.parent.name.split("-")[0], path.stem) for path in files}
    found = {(kind, name) for kind, name in found if kind != "values"}
    for _, element in elements(project, "res/values/*.xml"):
        if element.get("name"):
            found.add((element.tag, element.get("name")))
    return found


def test_every_resource_that_is_used_exists_and_every_other_is_not_there(project, kotlin):
    xml = "\n".join(path.read_text() for path in (project / APP).rglob("*.xml"))
    used = set(re.findall(r'"@(string|color|dimen|drawable|mipmap|layout)/(\w+)"', xml))
    used |= set(re.findall(r"(?<!android\.)\bR\.(\w+)\.(\w+)", kotlin))
    assert {pair for pair in used if pair[0] != "id"} == resources(project)


def test_every_view_that_the_code_looks_for_is_in_the_layout_with_its_class(project, kotlin):
    layout = {
        element.get(f"{ANDROID}id").removeprefix("@+id/"): element.tag.split(".")[-1]
        for _, element in elements(project, "res/layout/*.xml")
        if element.get(f"{ANDROID}id")
    }
    calls = re.findall(r"findViewById<(\w+)>\(R\.id\.(\w+)\)", kotlin)
    assert {(name, kind) for kind, name in calls} <= layout.items()
    assert set(re.findall(r"R\.id\.(\w+)", kotlin)) == layout.keys()


def test_own_views_of_a_layout_are_classes(project):
    own = [e.tag for _, e in elements(project, "res/layout/*.xml") if "org.example" in e.tag]
    assert own == ["org.example.classifier.AreaView"]
    assert "class AreaView(" in (project / PACKAGE / "AreaView.kt").read_text()


def test_texts_for_people_are_in_strings_xml(project, kotlin):
    for file, element in elements(project, "**/*.xml"):
        for attribute in ("text", "contentDescription", "hint", "label"):
            value = element.get(ANDROID + attribute, "@")
            assert value.startswith("@"), f"{file}: {value}"
    assert not re.search(r'(?:\.text = |setText\(|showProblem\()"', kotlin)


def test_texts_get_the_arguments_that_they_show(project, kotlin):
    for _, element in elements(project, "res/values/strings.xml"):
        if element.tag != "string":
            continue
        placeholders = len(set(re.findall(r"%(\d)\$", element.text)))
        for call in re.findall(rf"getString\(R\.string\.{element.get('name')}\b([^\n]*)", kotlin):
            assert (call.startswith(",")) == (placeholders > 0), element.get("name")


def test_layouts_have_no_attributes_that_are_newer_than_the_oldest_sdk(project):
    newer = re.compile(r"(?:padding|margin)(?:Horizontal|Vertical)|autoSize|tooltipText")  # SDK 26
    for file, element in elements(project, "res/layout/*.xml"):
        assert not newer.search(" ".join(element.keys())), file


def test_pictures_and_choices_have_a_description(project):
    for _, element in elements(project, "res/layout/*.xml"):
        if element.tag in ("ImageView", "Spinner"):
            assert element.get(f"{ANDROID}contentDescription")


def test_the_app_opens_the_files_that_the_export_puts_into_its_assets(kotlin):
    assert f'"{bundling.MODEL}"' in kotlin
    assert f"{APP}/assets" == bundling._ANDROID_ASSETS
    for name in ("labels.txt", "LICENSE", "NOTICE"):
        assert f'"{name}"' in kotlin


def test_litert_and_its_gpu_accelerator_have_one_version(catalog):
    used = {lib["module"]: lib["version"]["ref"] for lib in catalog["libraries"].values()}
    litert = "com.google.ai.edge.litert"
    assert used[f"{litert}:litert"] == used[f"{litert}:litert-gpu"] == "litert"
    cameras = {ref for module, ref in used.items() if module.startswith("androidx.camera:")}
    assert cameras == {"camera"}


def test_the_build_files_use_the_catalog_and_nothing_else(project, catalog):
    gradle = "".join(path.read_text() for path in project.rglob("*.gradle.kts"))
    used = set(re.findall(r"\(libs\.([\w.]+)\)", gradle))
    known = {name.replace("-", ".") for name in catalog["libraries"]}
    plugins = {f"plugins.{name.replace('-', '.')}" for name in catalog["plugins"]}
    assert used == known | plugins
    assert not re.search(r'"[\w.]+:[\w-]+:[\d.]+"|version "', gradle)


def test_every_version_of_the_catalog_is_used_and_says_where_it_was_looked_up(project, catalog):
    entries = [*catalog["libraries"].values(), *catalog["plugins"].values()]
    assert {entry["version"]["ref"] for entry in entries} == catalog["versions"].keys()
    lines = (project / "gradle/libs.versions.toml").read_text().splitlines()
    assert re.search(r"looked up on 20\d\d-\d\d-\d\d", lines[0])
    source = None
    for line in lines[2 : lines.index("[libraries]")]:
        source = line if line.startswith("# https://") else source
        assert source, line


def test_the_readme_names_the_sdk_and_the_version_of_litert(project, catalog):
    readme = (project / "README.md").read_text()
    assert f"LiteRT {catalog['versions']['litert']}" in readme and "SDK 24" in readme

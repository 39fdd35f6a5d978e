"""report.html: one file that tells how a run went, to whoever opens it, without a network.

No scripts, no links outside; the images are inside the file. Names of classes and paths come from
whoever made the data: whatever is put into the page goes through `_escape`.
"""

import csv
import json
import math
import shlex
import struct
from base64 import b64encode
from html import escape
from pathlib import Path

from keras_resnet.errors import InputError
from keras_resnet.files import write_text

MOST_ROWS = 20  # of the table of classes, before the rest is folded away
_Z = 1.96  # standard deviations on either side that hold 95% of a normal distribution


def write(folder):
    """Writes `report.html` into a run folder, from what the run left there.

    Reads `metrics.json`; and `config.json`, `history.csv`, `labels.txt`, `curves.png`,
    `confusion.png`, `mistakes.png` and `batch.png` where they are: what is missing is left out.

    Returns:
        The path of the page.

    Raises:
        InputError: there is no readable `metrics.json`.
    """
    folder = Path(folder)
    metrics = _metrics(folder)
    config = _json(folder / "config.json", {})
    history = _history(folder / "history.csv")
    sections = [
        _headline(metrics, config),
        _key_figures(metrics),
        _curves(folder, metrics, history),
        _classes(metrics),
        _confusion(folder, metrics),
        _mistakes(folder),
        _batch(folder),
        _next(folder),
        _settings(folder, config),
        _epochs(history),
    ]
    title = f"{metrics.get('model', 'A run')} on {_data_name(config)}"
    page = _PAGE.format(title=_escape(title), style=_STYLE, body="\n".join(filter(None, sections)))
    path = folder / "report.html"
    write_text(path, page)
    return path


# What the run left


def _metrics(folder):
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot read {folder / 'metrics.json'} ({error.strerror}); the run was not "
            "finished; train again"
        ) from None
    except ValueError as error:
        raise InputError(f"{folder / 'metrics.json'} is not JSON ({error})") from None
    labels = _labels(folder / "labels.txt")
    for name in ("val", "test"):
        if metrics.get(name):
            metrics[name]["classes"] = _class_names(metrics[name], labels)
    return metrics


def _class_names(score, labels):
    """Names in the order of the confusion matrix."""
    k = len(score.get("confusion") or [])
    if len(labels) == k:
        return labels
    names = list(score.get("per_class") or {})
    return names if len(names) == k else [str(i) for i in range(k)]


def _json(path, default):
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else default


def _labels(path):
    if not path.exists():
        return []
    # Not splitlines: a name may hold what Unicode calls the end of a line.
    return path.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n")


def _history(path):
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return [{k: _number(v) for k, v in row.items()} for row in csv.DictReader(file)]


def _number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


# The page, from top to bottom


def _headline(metrics, config):
    val = metrics.get("val") or {}
    model, data = _escape(metrics.get("model", "A run")), _escape(_data_name(config))
    lines = [f"<header><h1>{model} <span>on</span> {data}</h1>"]
    if val:
        low, high = _interval(val["top1"], val["images"])
        lines.append(
            f'<p class="big"><b>{_percent(val["top1"])}</b> top-1 on '
            f"{_count(val['images'], 'validation image')}</p>"
            f'<p class="note">The first guess is right this often. With so many images, chance '
            f"alone allows {_percent(low)} to {_percent(high)} (95% interval). {_caveat(metrics)}"
            "</p>"
        )
    return "".join([*lines, "</header>"])


def _caveat(metrics):
    test = metrics.get("test")
    if test:
        return (
            f"On {_count(test['images'], 'test image')}, which had no part in the training: "
            f"<b>{_percent(test['top1'])}</b>."
        )
    return (
        "The best epoch was chosen by these images; on images of another day or another camera "
        "expect less."
    )


def _key_figures(metrics):
    val, test = metrics.get("val") or {}, metrics.get("test") or {}
    figures = []
    if val:
        # Of five classes or fewer, one is always among the five best.
        if _given(val.get("top5")) and len(val["classes"]) > 5:
            figures.append((_percent(val["top5"]), "top-5, validation", ""))
        figures.append((f"{val['images']:,}", "validation images", _of_classes(val)))
    if test:
        figures.append((_percent(test["top1"]), "top-1, test", _count(test["images"], "image")))
    if _given(metrics.get("parameters")):
        figures.append((_short(metrics["parameters"]), "parameters", _bytes(metrics)))
    if _given(metrics.get("seconds")):
        figures.append((_duration(metrics["seconds"]), "training time", _rate(metrics)))
    if metrics.get("precision"):
        figures.append(
            (_escape(metrics["precision"]), "precision", _escape(metrics.get("precision_reason")))
        )
    cells = (
        f"<div><dt>{name}</dt><dd>{value}</dd>{f'<p>{note}</p>' if note else ''}</div>"
        for value, name, note in figures
    )
    return f'<dl class="figures">{"".join(cells)}</dl>'


def _of_classes(score):
    return f"of {len(score['classes']):,} classes"


def _bytes(metrics):
    return f"{_short(4 * metrics['parameters'])}B as float32"


def _rate(metrics):
    rate = metrics.get("images_per_second")
    return f"{rate:,.0f} images a second" if _given(rate) else ""


def _curves(folder, metrics, history):
    picture = _picture(folder / "curves.png", "Loss and accuracy over the epochs", "wide")
    if not picture:
        return ""
    row = next((r for r in history if r.get("epoch") == metrics.get("best_epoch")), None)
    best = ""
    if row:
        best = (
            f" The model that was kept is that of epoch {row['epoch']:.0f} of {len(history)}: "
            f"{_percent(row.get('val_top1'))} on validation, {_percent(row.get('top1'))} in "
            "training."
        )
    text = (
        "Solid: images the network never trained on. Dashed: the training images, cropped and "
        "altered at random and so harder, which is why training may look worse than validation. "
        "Still rising at the end: train for more epochs. Training far better than validation: "
        "more photos, or more varied ones, help more than epochs do."
    )
    if len({row.get("image_size") for row in history}) > 1:
        text += " Where the image size changes (in px, above the curves) a step is to be expected."
    text += _escape(best)
    return _section("Learning", text, picture)


def _classes(metrics):
    val = metrics.get("val") or {}
    rows = sorted((val.get("per_class") or {}).items(), key=_worst_first)
    if not rows:
        return ""
    lines = [_class_row(name, score) for name, score in rows]
    table = _class_table(lines[:MOST_ROWS])
    if len(lines) > MOST_ROWS:
        rest = _class_table(lines[MOST_ROWS:])
        table += f"<details><summary>{len(lines) - MOST_ROWS:,} more</summary>{rest}</details>"
    text = (
        "Worst first. Of the images that truly are of a class, how many were called so. With few "
        "images one mistake weighs much."
    )
    return _section("Classes", text, table)


def _worst_first(item):
    _, score = item
    # A class without validation images has no accuracy: it comes last.
    return score["top1"] if _given(score.get("top1")) and score["images"] else math.inf


def _class_row(name, score):
    n, top1 = score["images"], score.get("top1")
    if not (n and _given(top1)):
        return f"<tr><td>{_escape(name)}</td><td>{n:,}</td><td>–</td><td></td></tr>"
    bar = f'<span class="bar"><i style="width:{100 * top1:.1f}%"></i></span>'
    return f"<tr><td>{_escape(name)}</td><td>{n:,}</td><td>{_percent(top1)}</td><td>{bar}</td></tr>"


def _class_table(lines):
    return (
        '<table class="classes"><thead><tr><th>class</th><th>images</th><th>top-1</th>'
        f"<th></th></tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _confusion(folder, metrics):
    picture = _picture(folder / "confusion.png", "Confusion matrix")
    pairs = _confused(metrics.get("val") or {})
    if not picture and not pairs:
        return ""
    text = (
        "A row for each true class, a column for each answer; the diagonal is right, the rest is "
        "mistakes. The shade is the share of the row. Two dark cells that mirror each other: two "
        "classes that look alike, or photos that lie in the wrong folder."
    )
    lines = "".join(
        f"<li><b>{_escape(true)}</b> taken for <b>{_escape(said)}</b>: "
        f"{n:,} of {_count(of, 'image')}</li>"
        for n, of, true, said in pairs
    )
    listed = f"<h3>Most frequent</h3><ol>{lines}</ol>" if pairs else ""
    return _section("Which class is taken for which", text, picture + listed)


def _confused(score, most=5):
    """The most frequent mistakes, as (times, images of the true class, true, predicted)."""
    names = score.get("classes", [])
    pairs = [
        (n, sum(row), names[i], names[j])
        for i, row in enumerate(score.get("confusion") or [])
        for j, n in enumerate(row)
        if i != j and n
    ]
    return sorted(pairs, key=lambda pair: (-pair[0], pair[1]))[:most]


def _mistakes(folder):
    text = (
        "Validation images the network was surest about and wrong. The number is its score for "
        "its answer, 1.00 being certain. Look for wrong labels first: they are the cheapest to "
        "mend."
    )
    picture = _picture(folder / "mistakes.png", "Images that were classified wrongly", "wide")
    return _section("Worst mistakes", text, picture) if picture else ""


def _batch(folder):
    text = (
        "Training images after cropping, resizing and random changes, with their labels. If a "
        "person could not name these, neither can the network: choose milder crops or a larger "
        "image size."
    )
    picture = _picture(folder / "batch.png", "Training images with their labels", "wide")
    return _section("A batch as the network sees it", text, picture) if picture else ""


def _next(folder):
    run = shlex.quote(str(folder))
    steps = (
        ("Score it again, or on other photos", f"keras-resnet evaluate {run}"),
        ("Make it ready for a phone", f"keras-resnet export {run} --tflite --quantize int8"),
        ("Ask it about a photo", f"keras-resnet predict {run} photo.jpg"),
    )
    lines = "".join(f"<p>{what}</p><pre>{_escape(command)}</pre>" for what, command in steps)
    return _section("What next", "", lines)


def _settings(folder, config):
    if not config:
        return ""
    rows = "".join(
        f"<tr><td>{_escape(name)}</td><td>{_escape(_setting(value))}</td></tr>"
        for name, value in config.items()
    )
    command = f"keras-resnet train --config {shlex.quote(str(folder / 'config.json'))}"
    return (
        "<details><summary>All settings</summary>"
        f"<p>To train it again:</p><pre>{_escape(command)}</pre>"
        f'<table class="settings"><tbody>{rows}</tbody></table></details>'
    )


def _setting(value):
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_COLUMNS = (
    ("epoch", "epoch", "{:.0f}"),
    ("loss", "loss", "{:.3f}"),
    ("top1", "top-1", "{:.1%}"),
    ("val_loss", "val. loss", "{:.3f}"),
    ("val_top1", "val. top-1", "{:.1%}"),
    ("learning_rate", "rate", "{:.2g}"),
    ("image_size", "pixels", "{:.0f}"),
    ("seconds", "seconds", "{:.1f}"),
)


def _epochs(history):
    if not history:
        return ""
    head = "".join(f"<th>{name}</th>" for _, name, _ in _COLUMNS)
    rows = "".join(f"<tr>{_epoch(row)}</tr>" for row in history)
    return (
        '<details><summary>All epochs</summary><div class="wide">'
        f'<table class="epochs"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div></details>"
    )


def _epoch(row):
    return "".join(f"<td>{_cell(row.get(key), form)}</td>" for key, _, form in _COLUMNS)


def _cell(value, form):
    return form.format(value) if _given(value) else "–"


# Parts


def _section(title, text, content):
    note = f'<p class="note">{text}</p>' if text else ""
    return f"<section><h2>{title}</h2>{content}{note}</section>"


def _picture(path, text, kind="whole"):
    """A figure of the PNG at `path`, or nothing where there is none."""
    data = path.read_bytes() if path.exists() else b""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return ""
    (width,) = struct.unpack(">I", data[16:20])
    # Drawn at 150 dots per inch; a CSS pixel is 1/96 inch.
    return (
        f'<figure class="{kind}"><img alt="{_escape(text)}" width="{width * 96 // 150}" '
        f'src="data:image/png;base64,{b64encode(data).decode()}"></figure>'
    )


def _escape(text):
    text = "" if text is None else str(text)
    # Lone surrogates stand for bytes that are no UTF-8; no page can hold them.
    return escape(text.encode("utf-8", errors="replace").decode(), quote=True)


def _data_name(config):
    """`photos/signs/` is "signs"; tfds:NAME and digits stay as they are."""
    data = str(config.get("data", "its data"))
    return data if data.startswith("tfds:") else Path(data).name or data


def _given(value):
    return isinstance(value, (int, float)) and math.isfinite(value)


def _percent(share):
    # 1 of 2,000 wrong is not "100.0%".
    if not _given(share):
        return "–"
    return "99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


def _count(n, noun):
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _short(n):
    """272,474 is "272 k", 25,557,032 is "25.6 M"."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= 0.9995 * size:
            digits = 1 if n < 100 * size else 0
            return f"{n / size:.{digits}f} {letter}"
    return f"{n} "


def _duration(seconds):
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600:,} h {seconds % 3600 // 60} min"


def _interval(share, n):
    """Wilson's score interval (1927) of a share measured on `n` images; holds at 0 and at 1 too."""
    if not n or not _given(share):
        return 0.0, 1.0
    middle = share + _Z**2 / (2 * n)
    spread = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5d6675; --line: #dfe3e9;
  --paper: #fff; --card: #f5f7fa; --accent: #1b4f9c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa4b2; --line: #333b47;
  --paper: #14181f; --card: #1d232c; --accent: #7fb0ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 3rem 1.5rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif;
  overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 1.5rem; line-height: 1.25; font-weight: 600; }
h1 span { color: var(--soft); font-weight: 400; }
h2 { margin: 0 0 .75rem; font-size: 1.2rem; font-weight: 600; }
h3 { margin: 1.25rem 0 .25rem; font-size: 1rem; font-weight: 600; }
p { margin: .5rem 0; }
.big { margin: .75rem 0 .25rem; font-size: 1.25rem; }
.big b { font-size: 3.25rem; line-height: 1.1; letter-spacing: -.02em; color: var(--accent);
  margin-right: .25rem; white-space: nowrap; }
.note { color: var(--soft); max-width: 46rem; font-size: .92rem; }
section { margin-top: 3rem; }
.figures { display: flex; flex-wrap: wrap; gap: .75rem; margin: 2rem 0 0; }
.figures div { flex: 1 1 9rem; display: flex; flex-direction: column; padding: .8rem 1rem;
  background: var(--card); border-radius: .5rem; }
.figures dt { color: var(--soft); font-size: .8rem; order: 1; }
.figures dd { margin: 0; font-size: 1.3rem; font-weight: 600; white-space: nowrap; }
.figures p { margin: .25rem 0 0; color: var(--soft); font-size: .75rem; line-height: 1.35;
  order: 2; }
figure { margin: 0; padding: .5rem; background: #fff; border: 1px solid var(--line);
  border-radius: .5rem; overflow-x: auto; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 400; font-size: .85rem; text-align: left; }
th, td { padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
.classes td:nth-child(n+2), .classes th:nth-child(n+2), .epochs td, .epochs th
  { text-align: right; white-space: nowrap; }
.classes td:nth-child(2), .classes td:nth-child(3) { width: 5rem; }
.classes td:last-child { width: 30%; padding-right: 0; }
.settings td:first-child { color: var(--soft); width: 12rem; }
.wide { overflow-x: auto; }
.bar { display: block; margin-top: .5em; height: .6em; background: var(--line);
  border-radius: .3em; }
.bar i { display: block; height: 100%; background: var(--accent); border-radius: .3em;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
pre { margin: .25rem 0 1rem; padding: .6rem .9rem; background: var(--card); border-radius: .5rem;
  font-size: .9rem; white-space: pre-wrap; }
ol { margin: .25rem 0; padding-left: 1.5rem; }
details { margin-top: 1.5rem; }
summary { cursor: pointer; font-weight: 600; }
details .note, details p { font-size: .92rem; color: var(--soft); }
@media (max-width: 40rem) {
  body { padding: 1.5rem 1rem 3rem; }
  .big b { display: block; }
  figure.wide img { max-width: 46rem; }  /* to be scrolled sideways */
  .classes td:last-child { width: 22%; }
}
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --line: #ccc; --paper: #fff;
    --card: #f5f7fa; --accent: #1b4f9c; }
  body { max-width: none; padding: 0; font-size: 11pt; }
  figure, tr, .figures div, pre { break-inside: avoid; }
  h2 { break-after: avoid; }
  figure img { max-height: 24cm; object-fit: contain; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""

# The policy says to the browser what this file promises: nothing is loaded, nothing is run.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""

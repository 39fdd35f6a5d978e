"""The tables of `models` and `recipes` as text, each loading its own. No click: see `cli`."""


def models():
    """One line a network."""
    from keras_resnet.specs import SPECS

    lines = [f"{'name':16} {'branch':17} {'stem':8} {'shortcut':10} {'size':>4}  source"]
    lines += [
        f"{s.name:16} {s.branch:17} {s.stem:8} {s.shortcut:10} {s.image_size:>4}  {s.source}"
        for s in SPECS.values()
    ]
    return "\n".join(lines) + "\n"


def recipes():
    """Each recipe with the settings it makes."""
    from keras_resnet.recipes import RECIPES

    lines = []
    for name, numbers in RECIPES.items():
        lines.append(f"{name}: {numbers['about']}")
        lines += [f"    {key} = {value}" for key, value in numbers.items() if key != "about"]
    lines.append("every other setting has its default; `keras-resnet train --help` shows them")
    return "\n".join(lines) + "\n"

"""keras-resnet compare"""

import click

from keras_resnet.cli import tables
from keras_resnet.cli._options import command, report, reports, start
from keras_resnet.files import require_file


@command("compare", example="keras-resnet compare runs/photos runs/fine --html compare.html")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--html", metavar="FILE", help="Also write a page with the runs side by side.")
@reports
def compare(runs: tuple[str, ...], html: str | None, as_json: bool, quiet: bool) -> None:
    """Compare finished runs with the first of them.

    Shows the settings that differ, scores, sizes and latencies, recall by class, and whether the
    difference may be chance: the exact McNemar test on the images that neither run was trained on.
    """
    require_file(html, "--html", "html")
    start(quiet)
    from keras_resnet.evaluation import compare

    result = compare.compare(*runs)
    if html:
        from keras_resnet.report import compare_page

        compare_page.write(html, result.as_json())
    report(result, as_json, tables.comparison, html=html)

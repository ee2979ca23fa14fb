"""One HTML file that shows a run, or several side by side; it needs no network and no other file.

| module | what it does |
|---|---|
| `contents` | everything the report says, as plain values: `report_contents` |
| `errors` | alignments, confused pairs, errors by length, of prediction rows |
| `teachers` | what a run's teachers recognised, and who teaches whom |
| `media` | recordings and landmarks of the utterances that are shown, within a number of bytes |
| `charts` | line and bar charts as SVG that follows the page's colours |
| `page` | the HTML: `render_report`, `write_report` |
"""

"""From a run folder to tables, curves and a model card; no torch.

| name | where |
|---|---|
| `RunFolder` | `reporting.run_folder`: claim, finish, results, predictions |
| `problems_of_results`, `problems_of_score` | `reporting.results_schema`: what `results.json` must hold |
| `Page`, `Table` | `reporting.tables`: Markdown, LaTeX, CSV and JSON of the same lines |
| `comparison` | `reporting.comparison`: any runs on one split, with tests against a baseline; seeds folded |
| `overview` | `reporting.overview`: every score, of any corpora |
| `fold_table` | `reporting.folds`: rows over held-out speakers and seeds, with tests against a baseline |
| `verdict_of` | `reporting.verdicts`: what the WRA on held-out speakers means, beside the teachers' |
| `read_history`, `write_history` | `reporting.history`: the trainer's log as series over epochs |
| `draw_curves`, `write_curves` | `reporting.curves`: the 2 x 2 page as PNG and PDF |
| `report_contents`, `write_report` | `reporting.html_report`: one HTML file about a run, or several side by side |
| `build_model_card`, `write_model_card` | `reporting.model_card`: the folder's README.md |
"""

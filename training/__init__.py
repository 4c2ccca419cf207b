"""Train a model and write a checkpoint: recipes/ has a script per model family, which uses the rest.

annotations/ and data/ read labeled images, models/ has the networks, loop/ the steps, evaluation/ the metrics, report/
the page and the model card of a run.
"""

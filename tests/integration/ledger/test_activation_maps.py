"""Activation maps in SQL: written with the results of a batch, read where they are asked for."""

from dataclasses import replace

import numpy as np
from sqlalchemy import Engine
from support.ledger import batches, count, new_run, result_for, take

from producer.output.read.runs import read_results
from tagmill.db.schema import activation_map
from tagmill.ledger.complete import complete
from tagmill.records import ActivationMap
from tagmill.registry.models import Model


def test_an_activation_map_is_stored_once_and_read_where_it_is_asked_for(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model, images=2, batch_size=1)
    levels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for batch_id in batches(engine, run_id):  # both batches hold the same bytes
        claimed = take(engine, batch_id, f"worker {batch_id}")
        assert claimed is not None
        found = result_for(claimed)
        with_map = [replace(row, activation_map=levels) for row in found.inferences]
        assert complete(engine, claimed, replace(found, inferences=with_map), "worker")
    assert count(engine, activation_map) == 1
    for image in read_results(engine, run_id, [model], with_maps=True):
        assert image.maps == {model.name: ActivationMap(2, 3, bytes(range(6)))}
    assert all(image.maps == {} for image in read_results(engine, run_id, [model]))

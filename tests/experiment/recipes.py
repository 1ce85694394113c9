"""An experiment file."""

GOOD = """
folds: 2
seeds: [0, 3]
embed: {encoder: {name: tiny, input_size: 64}}
roi: {steps: 4, optimizer: {peak_rate: 1.0e-3, warmup_steps: 1}}
tumor: {steps: 2, start_from: roi}
variants:
  first: {}
  second: {roi: {optimizer: {peak_rate: 2.0e-3}}, tumor: null}
"""

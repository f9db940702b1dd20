"""Run folder -> page, figure, methods text; never loads a model."""

"""Read by mypy only (`make lint`): the lazy front door shows its real types.

If a type checker could not see through it, every name would be `Any`, the errors below would not be found, and mypy would
report their `ignore` comments as unused.
"""

import automodel

automodel.load_recipe("recipe.yaml", nonsense=1)  # type: ignore[call-arg]  # no such argument
automodel.finetunes("recipe.yaml")  # type: ignore[attr-defined]  # no such name
run: automodel.Run = automodel.attach("latest")
recipe: automodel.Recipe = automodel.load_recipe("recipe.yaml").recipe
automodel.launch(recipe, nproc_per_node="all")  # type: ignore[arg-type]  # a number, or "auto"
with automodel.load_generator(run) as ask:
    answer: str = ask("Who?").text
    ask("Who?", nonsense=1)  # type: ignore[call-arg]  # no such argument

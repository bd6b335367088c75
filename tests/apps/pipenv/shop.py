"""What a script of the Pipfile finds when it runs."""

import importlib.util

import iniconfig

print("runs with", iniconfig.__file__)
print("development dependencies:", importlib.util.find_spec("tomli"))

"""What a script of the package finds when it runs."""

import importlib.util

import iniconfig


def main():
    print("runs with", iniconfig.__file__)
    print("development dependencies:", importlib.util.find_spec("tomli"))

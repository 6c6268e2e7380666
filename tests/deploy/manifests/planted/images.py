"""Images, commands and names that are wrong."""

from __future__ import annotations

from tests.deploy.manifests.planted.mistake import Mistake, in_container, in_pod
from tests.deploy.manifests.rules import images, names

MISTAKES = (
    Mistake(
        images.names_a_fixed_image, in_container(lambda one: one.update(image="forebay")), "forebay"
    ),
    Mistake(
        images.names_a_fixed_image,
        in_container(lambda one: one.update(image="forebay:latest")),
        "latest",
    ),
    Mistake(
        images.names_a_fixed_image,
        in_container(lambda one: one.update(image="registry.example.com:5000/forebay")),
        "5000",
    ),
    Mistake(
        images.names_a_fixed_image,
        in_container(lambda one: one.update(image="forebay:0.0.9")),
        "0.0.9",
    ),
    Mistake(
        images.names_a_fixed_image,
        lambda bench: bench.container("StatefulSet", "mongodb").update(image="mongo"),
        "mongo",
    ),
    Mistake(
        images.pulls_only_what_is_missing,
        in_container(lambda one: one.update(imagePullPolicy="Always")),
        "ingress",
    ),
    Mistake(
        images.runs_a_command_that_exists,
        in_container(lambda one: one.update(command=["python", "-m", "ingres"])),
        "ingres",
    ),
    Mistake(
        images.runs_a_command_that_exists,
        in_container(lambda one: one.update(command=["python", "-m", "forebay.nothing"])),
        "forebay.nothing",
    ),
    Mistake(
        images.runs_a_command_that_exists, in_container(lambda one: one.pop("command")), "neither"
    ),
    Mistake(
        images.runs_a_command_that_exists,
        in_container(lambda one: one.update(command=["forebay", "topologie", "apply"])),
        "topologie",
    ),
    Mistake(
        images.runs_a_command_that_exists,
        in_container(lambda one: one.update(command=["forebay", "topology", "apply", "--now"])),
        "--now",
    ),
    Mistake(
        names.has_names_that_are_taken,
        in_container(lambda one: one["ports"][0].update(name="the-port-of-callers")),
        "the-port-of-callers",
    ),
    Mistake(
        names.has_names_that_are_taken,
        lambda bench: bench.get("Service", "forebay")["metadata"].update(name="Forebay"),
        "Forebay",
    ),
    Mistake(
        names.has_names_that_are_taken,
        lambda bench: bench.get("Service", "forebay")["metadata"]["labels"].update(
            about="the ingress"
        ),
        "about",
    ),
    Mistake(
        names.names_everything_once,
        in_container(lambda one: one["env"].append(one["env"][0])),
        "set twice",
    ),
    Mistake(
        names.names_everything_once,
        in_pod(lambda pod: pod["containers"].append(pod["containers"][0])),
        "two containers",
    ),
    Mistake(
        names.names_everything_once,
        lambda bench: bench.add(bench.get("Service", "forebay")),
        "Service/forebay",
    ),
)

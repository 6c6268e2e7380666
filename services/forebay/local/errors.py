"""What keeps the local stack from standing.

ForebayError
└── LocalStackError    something could not be started; says what, why and what to do
    ├── AlreadyUp      another run holds this checkout's `.run`
    └── ImageMissing   Docker neither has a server's image nor can pull it
"""

from __future__ import annotations

from forebay.errors import ForebayError


class LocalStackError(ForebayError):
    """The local stack could not be started."""


class AlreadyUp(LocalStackError):
    """The system of this checkout is already up."""


class ImageMissing(LocalStackError):
    """Docker does not have the image and cannot pull it."""

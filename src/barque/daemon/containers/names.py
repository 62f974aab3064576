"""Names for containers whose maker gave none, and the rule for the names that are given."""

from __future__ import annotations

import random
import re

from barque import errors

NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)
NAME_PATTERN = "[a-zA-Z0-9][a-zA-Z0-9_.-]"

_MOODS = (
    "able agile alert amber ample ardent bold brave breezy bright brisk calm candid careful "
    "cheery civil clear clever cosy daring deft eager earnest easy even fair faithful fearless "
    "firm fleet fond frank free fresh gallant gentle glad golden graceful grand happy hardy "
    "hearty honest hopeful humble jolly joyful keen kind light lively loyal lucid lucky mellow "
    "merry mild modest neat nimble noble orderly patient peaceful placid plucky polite prompt "
    "proud quick quiet ready rested serene sharp shining silent silver smart smooth snug sober "
    "solid spry stable steady still stout sturdy sunny sure swift tender thrifty tidy tireless "
    "trim true trusty upbeat valiant vivid warm watchful wise witty worthy young zesty "
)
MOODS = _MOODS.split()
_VESSELS = (
    "almadia argosy ark balinger barge barkentine bilander bireme birlinn boat brig brigantine "
    "buoy canoe caravel carrack catamaran chasse clipper coble cog coracle corsair corvette "
    "curragh currach cutter dhow dinghy dory dragger drifter dromon faering falua felucca ferry "
    "fishwife flute flyboat frigate fusta galleass galleon galley galliot gig gondola gulet hoy "
    "hulk jangada junk karve kayak keelboat ketch knarr lateen launch liberty lighter longship "
    "lorcha lugger mistico monitor nao outrigger packet paddler pilot pinisi pinnace pirogue "
    "polacca pontoon pram proa punt quadrireme raft sampan schooner scow shallop skiff skipjack "
    "sloop smack snow tartane tender trawler trimaran trireme tug vinta wherry whaler xebec yacht "
    "yawl zabra "
)
VESSELS = _VESSELS.split()


def random_name(source: random.Random) -> str:
    """A name such as `steady_ketch`."""
    return f"{source.choice(MOODS)}_{source.choice(VESSELS)}"


def check_name(name: str) -> str:
    """`name` without its leading slash. Raises InvalidArgument for what Docker refuses."""
    if not NAME.fullmatch(name):
        raise errors.InvalidArgument(
            f"Invalid container name ({name}), only {NAME_PATTERN} are allowed"
        )
    return name.removeprefix("/")

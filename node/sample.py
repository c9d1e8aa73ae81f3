"""The sample ledger of the demo: a vehicle registry, as users of ledger databases know it.

Made up, and always the same: every vehicle is registered, and some are sold on, which gives them a history.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec

LEDGER = "sample"
TABLE = "vehicles"
IDEMPOTENCY_KEY = "stele-demo-sample-1"

_VEHICLES = 200
_SALES = 150
_SEED = 1886  # the year of Benz's patent
_VIN_CHARACTERS = "ABCDEFGHJKLMNPRSTUVWXYZ0123456789"
_MODELS = {
    "Aurora": ("Comet", "Meridian", "Zephyr"),
    "Bramble": ("Badger", "Heron", "Otter"),
    "Castell": ("Corniche", "Valley", "Summit"),
    "Dorado": ("Reef", "Atoll", "Lagoon"),
}
_GIVEN_NAMES = (
    "Ada",
    "Ben",
    "Chidi",
    "Dana",
    "Emil",
    "Farah",
    "Goran",
    "Hana",
    "Ines",
    "Jonas",
    "Kemi",
    "Lea",
)
_FAMILY_NAMES = (
    "Alvarez",
    "Becker",
    "Costa",
    "Dubois",
    "Eriksen",
    "Fischer",
    "Greco",
    "Haddad",
    "Ito",
    "Jansen",
)
_COLOURS = ("black", "blue", "green", "grey", "red", "silver", "white", "yellow")

FIRST_VIN = "1CASTELL000000001"
"""A vehicle with a known number, for the commands that the demo prints."""


def lines() -> Iterator[bytes]:
    """NDJSON for POST …/bulk: every vehicle once, then one line a sale."""
    chance = random.Random(_SEED)
    vehicles: dict[str, dict[str, object]] = {}
    while len(vehicles) < _VEHICLES:
        vin = "".join(chance.choices(_VIN_CHARACTERS, k=17)) if vehicles else FIRST_VIN
        make = chance.choice(tuple(_MODELS))
        vehicles[vin] = {
            "vin": vin,
            "make": make,
            "model": chance.choice(_MODELS[make]),
            "year": chance.randint(1998, 2025),
            "colour": chance.choice(_COLOURS),
            "owner": _person(chance),
            "mileage_km": chance.randrange(10, 240_000),
        }
        yield _line(vin, vehicles[vin])
    for number in range(_SALES):
        vin = FIRST_VIN if number % 50 == 0 else chance.choice(tuple(vehicles))
        sold = vehicles[vin]
        mileage = sold["mileage_km"]
        driven = chance.randrange(500, 30_000)
        vehicles[vin] = {**sold, "owner": _person(chance), "mileage_km": int(str(mileage)) + driven}
        yield _line(vin, vehicles[vin])


def _person(chance: random.Random) -> str:
    return f"{chance.choice(_GIVEN_NAMES)} {chance.choice(_FAMILY_NAMES)}"


def _line(vin: str, vehicle: dict[str, object]) -> bytes:
    return msgspec.json.encode({"table": TABLE, "key": vin, "data": vehicle}) + b"\n"

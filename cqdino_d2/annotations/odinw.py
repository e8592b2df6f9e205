"""Object Detection in the Wild (arXiv 2112.03857, 2204.08790): its sets and what they are asked.

The folders are those of the public download; the names are those that published zero-shot figures
were asked with, in the order of the categories' ids in the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ODINW_SHOTS, ODINW_SEEDS = (1, 3, 5, 10), (3, 30, 300)  # of the download's few-shot files
_FILE = "annotations_without_background.json"


@dataclass(frozen=True)
class Wording:
    """How a name stands in the caption.

    Attributes:
        name: said instead of the class; '' says the class.
        prefix, suffix: what stands before and behind it; no part of the phrase.
    """

    name: str = ""
    prefix: str = ""
    suffix: str = ""


@dataclass(frozen=True)
class OdinwSet:
    """One of the sets.

    Attributes:
        folder: below the root of ODinW.
        classes: what is asked for each category, by ascending id.
        split: folder of images and annotations below ``folder``.
        json_file: the annotation file there.
        train_split, train_file: the same of the training images.
        wordings: of the classes that have one; only used where prompts are asked for.
    """

    folder: str
    classes: tuple[str, ...]
    split: str = "valid"
    json_file: str = _FILE
    train_split: str = "train"
    train_file: str = _FILE
    wordings: Mapping[str, Wording] = field(default_factory=dict)


def _exported(folder: str, classes: tuple[str, ...]) -> OdinwSet:
    """A set whose annotations of all splits are in one folder, with the images."""
    return OdinwSet(folder, classes, "", f"val_{_FILE}", "", f"train_{_FILE}")


_DRONE = ("boat", "car", "dock", "jetski", "lift")
_MUSHROOMS = "NorthAmericaMushrooms/North American Mushrooms.v1-416x416.coco"
_PASCAL = tuple(
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor".split()
)

_SHARED = {  # the same in both benchmarks
    "Aquarium": OdinwSet(
        "Aquarium/Aquarium Combined.v2-raw-1024.coco",
        ("fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray"),
        wordings={
            "penguin": Wording(suffix=", which is black and white"),
            "puffin": Wording(suffix=" with orange beaks"),
            "stingray": Wording(suffix=" which is flat and round"),
        },
    ),
    "Packages": OdinwSet(
        "Packages/Raw",
        ("package",),
        wordings={"package": Wording(prefix="there is a ", suffix=" on the porch")},
    ),
    "PascalVOC": OdinwSet("PascalVOC", _PASCAL),
    "pistols": _exported("pistols/export", ("pistol",)),
    "pothole": OdinwSet(
        "pothole",
        ("pothole",),
        wordings={"pothole": Wording("holes", "there are some ", " on the road")},
    ),
    "Raccoon": OdinwSet("Raccoon/Raccoon.v2-raw.coco", ("raccoon",)),
    "ShellfishOpenImages": OdinwSet("ShellfishOpenImages/raw", ("Crab", "Lobster", "Shrimp")),
    "thermalDogsAndPeople": OdinwSet("thermalDogsAndPeople", ("dog", "person")),
    "VehiclesOpenImages": OdinwSet(
        "VehiclesOpenImages/416x416", ("Ambulance", "Bus", "Car", "Motorcycle", "Truck")
    ),
}
_HAND = {"hand": Wording(suffix=" of a person")}

ODINW13: dict[str, OdinwSet] = {
    "AerialMaritimeDrone": OdinwSet("AerialMaritimeDrone/large", _DRONE),
    "CottontailRabbits": OdinwSet(
        "CottontailRabbits",
        ("Cottontail-Rabbit",),
        wordings={"Cottontail-Rabbit": Wording("rabbit")},
    ),
    "EgoHands": OdinwSet("EgoHands/generic", ("hand",), wordings=_HAND),
    "NorthAmericaMushrooms": OdinwSet(
        _MUSHROOMS,
        ("CoW", "chanterelle"),
        wordings={"CoW": Wording("flat mushroom"), "chanterelle": Wording("yellow mushroom")},
    ),
    **_SHARED,
}

ODINW35: dict[str, OdinwSet] = {
    "AerialMaritimeDrone_large": OdinwSet("AerialMaritimeDrone/large", _DRONE),
    "AerialMaritimeDrone_tiled": OdinwSet("AerialMaritimeDrone/tiled", _DRONE),
    "AmericanSignLanguageLetters": OdinwSet(
        "AmericanSignLanguageLetters/American Sign Language Letters.v1-v1.coco",
        tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    ),
    "BCCD": OdinwSet("BCCD/BCCD.v3-raw.coco", ("Platelets", "RBC", "WBC")),
    "boggleBoards": _exported(
        "boggleBoards/416x416AutoOrient/export",
        (
            *("Q", "a", "an", "b", "c", "d", "e", "er", "f", "g", "h", "he", "i", "in", "j", "k"),
            *("l", "m", "n", "o", "o ", "p", "q", "qu", "r", "s", "t", "t\\", "th", "u", "v", "w"),
            *("wild", "x", "y", "z"),
        ),
    ),
    "brackishUnderwater": OdinwSet(
        "brackishUnderwater/960x540",
        ("crab", "fish", "jellyfish", "shrimp", "small_fish", "starfish"),
    ),
    "ChessPieces": OdinwSet(  # the first category has no name and no boxes
        "ChessPieces/Chess Pieces.v23-raw.coco",
        (
            "",
            *(
                f"{colour} {piece}"
                for colour in ("black", "white")
                for piece in ("bishop", "king", "knight", "pawn", "queen", "rook")
            ),
        ),
    ),
    "CottontailRabbits": OdinwSet("CottontailRabbits", ("rabbit",)),
    "dice": _exported("dice/mediumColor/export", tuple("123456")),
    "DroneControl": OdinwSet(
        "DroneControl/Drone Control.v3-raw.coco",
        (
            *("follow", "follow_hand", "land", "land_hand", "null", "object", "takeoff"),
            "takeoff-hand",
        ),
    ),
    "EgoHands_generic": OdinwSet("EgoHands/generic", ("hand",), wordings=_HAND),
    "EgoHands_specific": OdinwSet(
        "EgoHands/specific", ("myleft", "myright", "yourleft", "yourright")
    ),
    "HardHatWorkers": OdinwSet("HardHatWorkers/raw", ("head", "helmet", "person")),
    "MaskWearing": OdinwSet("MaskWearing/raw", ("mask", "no-mask")),
    "MountainDewCommercial": OdinwSet("MountainDewCommercial", ("bottle",)),
    "NorthAmericaMushrooms": OdinwSet(_MUSHROOMS, ("flat mushroom", "yellow mushroom")),
    "openPoetryVision": OdinwSet(
        "openPoetryVision/512x512",
        (
            *("American Typewriter", "Andale Mono", "Apple Chancery", "Arial", "Avenir"),
            *("Baskerville", "Big Caslon", "Bradley Hand", "Brush Script MT", "Chalkboard"),
            *("Comic Sans MS", "Copperplate", "Courier", "Didot", "Futura", "Geneva", "Georgia"),
            *("Gill Sans", "Helvetica", "Herculanum", "Impact", "Kefa", "Lucida Grande"),
            *("Luminari", "Marker Felt", "Menlo", "Monaco", "Noteworthy", "Optima", "PT Sans"),
            *("PT Serif", "Palatino", "Papyrus", "Phosphate", "Rockwell", "SF Pro"),
            *("SignPainter", "Skia", "Snell Roundhand", "Tahoma", "Times New Roman"),
            *("Trebuchet MS", "Verdana"),
        ),
    ),
    "OxfordPets_by_breed": OdinwSet(
        "OxfordPets/by-breed",
        (
            *("cat-Abyssinian", "cat-Bengal", "cat-Birman", "cat-Bombay"),
            *("cat-British_Shorthair", "cat-Egyptian_Mau", "cat-Maine_Coon", "cat-Persian"),
            *("cat-Ragdoll", "cat-Russian_Blue", "cat-Siamese", "cat-Sphynx"),
            *("dog-american_bulldog", "dog-american_pit_bull_terrier", "dog-basset_hound"),
            *("dog-beagle", "dog-boxer", "dog-chihuahua", "dog-english_cocker_spaniel"),
            *("dog-english_setter", "dog-german_shorthaired", "dog-great_pyrenees"),
            *("dog-havanese", "dog-japanese_chin", "dog-keeshond", "dog-leonberger"),
            *("dog-miniature_pinscher", "dog-newfoundland", "dog-pomeranian", "dog-pug"),
            *("dog-saint_bernard", "dog-samoyed", "dog-scottish_terrier", "dog-shiba_inu"),
            *("dog-staffordshire_bull_terrier", "dog-wheaten_terrier", "dog-yorkshire_terrier"),
        ),
    ),
    "OxfordPets_by_species": OdinwSet("OxfordPets/by-species", ("cat", "dog")),
    "PKLot": OdinwSet("PKLot/640", ("space-empty", "space-occupied")),
    "plantdoc": OdinwSet(
        "plantdoc/416x416",
        (
            *("Apple Scab Leaf", "Apple leaf", "Apple rust leaf", "Bell_pepper leaf"),
            *("Bell_pepper leaf spot", "Blueberry leaf", "Cherry leaf", "Corn Gray leaf spot"),
            *("Corn leaf blight", "Corn rust leaf", "Peach leaf", "Potato leaf"),
            *("Potato leaf early blight", "Potato leaf late blight", "Raspberry leaf"),
            *("Soyabean leaf", "Soybean leaf", "Squash Powdery mildew leaf", "Strawberry leaf"),
            *("Tomato Early blight leaf", "Tomato Septoria leaf spot", "Tomato leaf"),
            *("Tomato leaf bacterial spot", "Tomato leaf late blight"),
            *("Tomato leaf mosaic virus", "Tomato leaf yellow virus", "Tomato mold leaf"),
            *("Tomato two spotted spider mites leaf", "grape leaf", "grape leaf black rot"),
        ),
    ),
    "selfdrivingCar": _exported(
        "selfdrivingCar/fixedLarge/export",
        (
            *("biker", "car", "pedestrian", "trafficLight", "trafficLight-Green"),
            *("trafficLight-GreenLeft", "trafficLight-Red", "trafficLight-RedLeft"),
            *("trafficLight-Yellow", "trafficLight-YellowLeft", "truck"),
        ),
    ),
    "ThermalCheetah": OdinwSet("ThermalCheetah", ("cheetah", "human")),
    "UnoCards": OdinwSet("UnoCards/raw", tuple(map(str, range(15)))),
    "WildfireSmoke": OdinwSet("WildfireSmoke", ("smoke",)),
    "websiteScreenshots": OdinwSet(
        "websiteScreenshots",
        ("button", "field", "heading", "iframe", "image", "label", "link", "text"),
    ),
    **_SHARED,
}

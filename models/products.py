"""The simulated shop's shelves: named categories and products, each with price, quality, popularity and style."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

STYLES: Final = 4  # axes of style; the first is the price tier
NEIGHBOURS: Final = 6


@dataclass(frozen=True)
class Category:
    """What a category is called, what it sells, and what reviews of it speak of, in English and Chinese."""

    id: str
    name: str
    noun: tuple[str, str]
    price: float  # of a product in the middle
    goes_with: str  # the category that buyers look at next
    brands: tuple[str, ...]
    lines: tuple[str, ...]
    aspects: tuple[tuple[str, str], ...]


def _category(
    id_: str, name: str, noun: tuple[str, str], price: float, goes_with: str, brands: str, lines: str, aspects: str
) -> Category:
    pairs = tuple((english, chinese) for english, chinese in (pair.split("/") for pair in aspects.split(", ")))
    return Category(id_, name, noun, price, goes_with, tuple(brands.split(", ")), tuple(lines.split(", ")), pairs)


CATEGORIES: Final = (
    _category(
        "phones", "Phones", ("phone", "手机"), 420, "headphones",
        "Auralis, Nordlys, Kestrel, Monde, Zhulin, Pixelia",
        "One, One Mini, Two, Two Pro, Air, Fold, Lite 5, Max, Note 9, Play",
        "battery/电池, screen/屏幕, camera/拍照, speaker/音质",
    ),
    _category(
        "cameras", "Cameras", ("camera", "相机"), 650, "backpacks",
        "Lumen, Ostrava, Kestrel, Halide, Verity, Obscura",
        "C1, C1 Travel, C2, C2 Zoom, Street 35, Macro 60, Field, Action, Instant, Studio",
        "lens/镜头, autofocus/对焦, image quality/画质, grip/手感",
    ),
    _category(
        "headphones", "Headphones", ("pair of headphones", "耳机"), 120, "phones",
        "Auralis, Sono, Basswood, Quietly, Zhulin, Echolet",
        "Buds, Buds Pro, Over-Ear 2, Studio, Sport, Air, Open, Kids, Travel, Bone",
        "sound/音质, noise cancelling/降噪, fit/佩戴, microphone/麦克风",
    ),
    _category(
        "laptops", "Laptops", ("laptop", "笔记本电脑"), 900, "backpacks",
        "Monde, Graphite, Nordlys, Corvus, Zhulin, Tabula",
        "13, 14 Air, 14 Pro, 16, 16 Studio, Flip, Go, Edu, Game 15, Work 17",
        "keyboard/键盘, screen/屏幕, battery/续航, fan/散热",
    ),
    _category(
        "watches", "Watches", ("watch", "手表"), 180, "running-shoes",
        "Meridian, Tiktak, Corvus, Solstice, Pacer, Lumen",
        "Classic, Classic 36, Dive, Field, Moon, Run, Run Pro, Solar, Steel, Kids",
        "strap/表带, dial/表盘, battery/电池, accuracy/走时",
    ),
    _category(
        "running-shoes", "Running shoes", ("pair of shoes", "跑鞋"), 95, "watches",
        "Stride, Pacer, Fellrunner, Cloudline, Tarmac, Lièvre",
        "Daily, Daily 2, Tempo, Trail, Trail Mid, Race, Cushion, Barefoot, Track, Winter",
        "cushioning/缓震, sole/鞋底, fit/尺码, upper/鞋面",
    ),
    _category(
        "backpacks", "Backpacks", ("backpack", "背包"), 80, "bicycles",
        "Fellrunner, Cairn, Ostrava, Portage, Moraine, Citybound",
        "12 L, 18 L, 24 L, 32 L, 45 L, Roll, Camera, Commuter, School, Duffel",
        "zip/拉链, straps/肩带, space/容量, fabric/面料",
    ),
    _category(
        "bicycles", "Bicycles", ("bicycle", "自行车"), 540, "backpacks",
        "Tarmac, Veloce, Moraine, Pedalier, Northway, Fourche",
        "City 3, City 7, Gravel, Road, Road SL, Trail 29, Fold, Cargo, Kids 20, Touring",
        "brakes/刹车, gears/变速, saddle/车座, frame/车架",
    ),
    _category(
        "coffee", "Coffee", ("coffee", "咖啡"), 14, "cookware",
        "Altura, Finca Sol, Morning Post, Tostado, Yunnan Hill, Kiln",
        "Espresso, House, Dark, Light, Decaf, Single Origin, Filter, Honey, Natural, Cold Brew",
        "aroma/香味, roast/烘焙, taste/口感, freshness/新鲜度",
    ),
    _category(
        "cookware", "Cookware", ("pan", "锅"), 60, "coffee",
        "Kiln, Ferrum, Sauté, Hearth, Copperhead, Woklife",
        "Pan 20, Pan 24, Pan 28, Wok 30, Wok 32, Pot 3 L, Pot 5 L, Grill, Steamer, Casserole",
        "coating/涂层, handle/手柄, weight/重量, lid/锅盖",
    ),
    _category(
        "skin-care", "Skin care", ("cream", "面霜"), 28, "watches",
        "Dewdrop, Lait, Botanika, Puresse, Jade Lake, Salt & Sea",
        "Day, Night, Rich, Light, Sun 30, Sun 50, Serum, Eye, Hand, Mask",
        "scent/味道, texture/质地, effect/效果, bottle/包装",
    ),
    _category(
        "garden", "Garden tools", ("tool", "工具"), 35, "cookware",
        "Greenhand, Ferrum, Hedgerow, Spade & Son, Terroir, Moss",
        "Spade, Fork, Shears, Pruner, Rake, Hose 15, Hose 25, Trowel, Saw, Watering Can",
        "handle/手柄, blade/刀刃, weight/重量, finish/做工",
    ),
)  # fmt: skip


class Shop:
    """A catalog of 12 categories with 40 to 59 products each; the same seed gives the same shop.

    Attributes:
        category_ids, category_names: by category.
        item_ids, item_names: by item.
        item_category: int64 [items], index of the category.
        prices: float64 [items].
        quality: float64 [items], 0 to 1; ratings follow it.
        popularity: float64 [items], added to what a shopper likes.
        style: float64 [items, STYLES]; shoppers like products near their own style.
        members: items of each category, int64 arrays.
        neighbours: int64 [items, NEIGHBOURS], the most alike in the same category, looked at next.
        goes_with: for each category, the index of the one that its buyers look at next.
    """

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng([seed, 0])
        self.seed = seed
        self.categories = CATEGORIES
        self.category_ids = tuple(category.id for category in CATEGORIES)
        self.category_names = tuple(category.name for category in CATEGORIES)
        self.goes_with = tuple(self.category_ids.index(category.goes_with) for category in CATEGORIES)
        ids, names, of, prices, styles = [], [], [], [], []
        for index, category in enumerate(CATEGORIES):
            brand_style = random.normal(0, 1, (len(category.brands), STYLES))
            line_style = random.normal(0, 0.7, (len(category.lines), STYLES))
            every = len(category.brands) * len(category.lines)
            for number, place in enumerate(np.sort(random.permutation(every)[: random.integers(40, 60)])):
                brand, line = divmod(int(place), len(category.lines))
                style = brand_style[brand] + line_style[line] + random.normal(0, 0.2, STYLES)
                ids.append(f"{category.id}-{number + 1:02}")
                names.append(f"{category.brands[brand]} {category.lines[line]}")
                of.append(index)
                prices.append(max(1.0, round(category.price * 2 ** (0.7 * style[0]))) - 0.01)
                styles.append(style)
        self.item_ids, self.item_names = tuple(ids), tuple(names)
        self.item_category: NDArray[np.int64] = np.array(of)
        self.prices = np.round(prices, 2)
        self.style = np.array(styles)
        self.quality = 1 / (1 + np.exp(-random.normal(0.5 + 0.3 * self.style[:, 0], 1.0)))
        self.popularity = random.normal(0, 0.7, len(ids))
        self.members = tuple(np.flatnonzero(self.item_category == index) for index in range(len(CATEGORIES)))
        self.neighbours = np.zeros((len(ids), NEIGHBOURS), np.int64)
        for members in self.members:
            apart = np.linalg.norm(self.style[members, None] - self.style[None, members], axis=2)
            np.fill_diagonal(apart, np.inf)
            self.neighbours[members] = members[np.argsort(apart, axis=1, kind="stable")[:, :NEIGHBOURS]]

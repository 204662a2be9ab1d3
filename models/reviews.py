"""What the simulated shoppers write: a few sentences in English or Chinese that fit product and rating."""

from collections.abc import Callable
from typing import Final

from models.products import Category

# Openers, what is said of an aspect, and closers, for ratings of 4 and 5, of 3, and of 1 and 2.
ENGLISH: Final = {
    "good": (
        ("Love this {noun}.", "Really happy with the {brand}.", "Better than I expected.",
         "My second {brand}, and the best.", "Exactly what I was looking for."),
        ("The {aspect} is excellent", "The {aspect} is great", "I am impressed by the {aspect}",
         "The {aspect} is a joy", "You will not find a better {aspect} at this price"),
        ("Would buy again.", "Highly recommended!", "Worth every cent.", "It arrived fast and well packed.",
         "Perfect as a gift too."),
    ),
    "mixed": (
        ("It is okay.", "An average {noun}.", "Not bad, not great.", "The {brand} does its job."),
        ("The {aspect} is decent", "The {aspect} could be better", "I expected more of the {aspect}",
         "The {aspect} is fine for the price"),
        ("Fine for every day.", "You get what you pay for.", "Maybe the next one.", "Delivery took a while."),
    ),
    "bad": (
        ("Disappointed.", "I regret buying this {noun}.", "Not what was promised.", "Never again {brand}."),
        ("The {aspect} is terrible", "The {aspect} broke after a week", "The {aspect} is really poor",
         "The {aspect} does not work for me"),
        ("I want my money back.", "Sent it back.", "Save your money.", "Do not buy it."),
    ),
}  # fmt: skip
CHINESE: Final = {
    "good": (
        ("这款{noun}非常喜欢，", "很满意的一次购物，", "比想象中好很多，", "第二次买{brand}了，", "朋友推荐买的，"),
        ("{aspect}特别好", "{aspect}很棒", "{aspect}没话说", "{aspect}超出预期", "{aspect}很满意"),
        ("，物流也很快，推荐购买！", "，性价比很高。", "，下次还会再买。", "，值得购买，好评！", "，送人也合适。"),
    ),
    "mixed": (
        ("还可以吧，", "一般般，", "这个{noun}中规中矩，", "没有想象中好，"),
        ("{aspect}一般", "{aspect}还行", "{aspect}有待改进", "{aspect}凑合能用"),
        ("，对得起这个价格。", "，先用着看看。", "，物流有点慢。", "，日常用够了。"),
    ),
    "bad": (
        ("非常失望，", "这个{noun}质量太差，", "后悔买了，", "再也不买{brand}了，"),
        ("{aspect}很差", "{aspect}用了一周就坏了", "{aspect}根本不行", "{aspect}有问题"),
        ("，已经退货了。", "，不推荐购买！", "，浪费钱。", "，差评。"),
    ),
}  # fmt: skip


def review(category: Category, item_name: str, rating: int, *, chinese: bool, uniform: Callable[[], float]) -> str:
    """A review of an item of `category`; `uniform` gives random numbers from 0 up to 1."""
    mood = "good" if rating >= 4 else "mixed" if rating == 3 else "bad"
    opener, middle, closer = (
        choices[int(uniform() * len(choices))] for choices in (CHINESE if chinese else ENGLISH)[mood]
    )
    first = category.aspects[int(uniform() * len(category.aspects))][chinese]
    sentence = middle.format(aspect=first)
    text = f"{opener}{sentence}{closer}" if chinese else f"{opener} {sentence}. {closer}"
    brand = next((name for name in category.brands if item_name.startswith(name)), item_name)
    return text.format(noun=category.noun[chinese], brand=brand)

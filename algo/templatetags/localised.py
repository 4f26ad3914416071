"""`{% load localised %}`: the formats of `algo.localised` for templates."""

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from algo import localised

register = template.Library()
register.filter("moment", localised.moment)
register.filter("day", localised.day)
register.filter("hour", localised.hour)
register.filter("amount", localised.number)
register.filter("money", localised.money)
register.filter("percent", localised.percent)
register.filter("duration", localised.duration)
register.filter("digits", localised.digits)


@register.filter
def latin(text: object) -> SafeString:
    """A symbol, name or id: it reads from left to right wherever it stands."""
    return format_html("<bdi>{}</bdi>", text)


@register.simple_tag
def zone_name() -> str:
    return localised.zone_name()

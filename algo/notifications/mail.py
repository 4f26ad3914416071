"""E-mail: text and HTML, in the channel's language, through the server of EMAIL_URL."""

from __future__ import annotations

import smtplib

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from algo.localised import reading
from algo.notifications.message import DeliveryFailed, Message
from algo.notifications.texts import Text, channel_reader, message_text

TEMPLATE = "algo/notifications/mail.html"


def is_mail_set() -> bool:
    return bool(settings.EMAIL_HOST)


def mail_message_send(message: Message) -> int | None:
    """The sender of channels that are e-mail. Raises DeliveryFailed, SecretUnreadable."""
    if not is_mail_set():
        raise DeliveryFailed(_("No mail server is set (EMAIL_URL)."))
    mail = mail_of(message)
    try:
        mail.send()
    except smtplib.SMTPRecipientsRefused as exc:
        code = next(iter(exc.recipients.values()), (None, b""))[0]
        raise DeliveryFailed(_("The mail server refused the address (%(code)s).") % {"code": code}) from None
    except smtplib.SMTPResponseException as exc:
        code = exc.smtp_code
        raise DeliveryFailed(_("The mail server answered %(code)s.") % {"code": code}) from None
    except (smtplib.SMTPException, OSError) as exc:
        raise DeliveryFailed(
            _("The mail server could not be reached (%(why)s).") % {"why": type(exc).__name__}
        ) from None
    return None


def mail_of(message: Message) -> EmailMultiAlternatives:
    """The mail, not sent. Its Message-ID is the same at every try."""
    with reading(channel_reader(message.channel)) as who:
        text = message_text(message)
        domain = settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].rstrip(">") or "localhost"
        mail = EmailMultiAlternatives(
            subject=" ".join(text.title.split())[:200],
            body=_plain(text),
            to=[message.channel.target()],
            headers={
                "Message-ID": f"<{message.id}.{message.channel.public_id}@{domain}>",
                "Auto-Submitted": "auto-generated",
                "Content-Language": who.language,
            },
        )
        context = {"text": text, "language": who.language, "rtl": who.right_to_left, "site": settings.WEB_URL}
        mail.attach_alternative(render_to_string(TEMPLATE, context), "text/html")
    return mail


def _plain(text: Text) -> str:
    return "\n".join((text.title, "", *text.lines, ""))

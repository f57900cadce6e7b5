"""Mail: one message, handed to the operator's mail server in a thread that nobody waits for longer than is good."""

from __future__ import annotations

import asyncio
import contextlib
import re
import smtplib
import socket
import ssl
import threading
from concurrent.futures import Future
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr
from html import escape
from typing import TYPE_CHECKING

from cupola.config import MailEncryption
from cupola.exceptions import InputError, NotAllowedError, UnavailableError
from cupola.models.base import Model, Time

if TYPE_CHECKING:
    from collections.abc import Callable

    from cupola.config import MailSettings

__all__ = ["Letter", "Mailer", "as_address"]

_SECONDS = 20.0
"""Longest silence of the server."""
_ALL_SECONDS = 60.0
"""Longest for a whole message: a server that sends a byte now and then is never silent."""
_ADDRESS = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?=.{1,190}\Z)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*"
)
_FOR_EVER = 500
"""The first of the answers that a second try does not change."""


class Letter(Model):
    """A message for one person."""

    to: str
    subject: str
    lines: list[str]
    """Its paragraphs, as plain text."""
    link: str
    link_text: str
    footer: str = ""
    id: str
    """Makes the message's number: a message that is sent twice has the same, and programs show it once."""
    time: Time


def as_address(text: str) -> str:
    """Return a mail address as it can be used.

    Raises
    ------
    InputError
        If it is none.
    """
    plain = text.strip()
    if not _ADDRESS.fullmatch(plain) or ".." in plain:
        raise InputError(f"{plain[:80]!r} is no mail address that can be used: write it as name@example.org.")
    return plain


class Mailer:
    """Hands messages to the mail server.

    Parameters
    ----------
    settings
        Of the mail server.
    title
        The platform's name, from which mail comes.
    silence, patience
        Longest silence of the server, and longest for one message, in seconds.
    """

    def __init__(
        self,
        settings: MailSettings,
        title: str,
        *,
        silence: float = _SECONDS,
        patience: float = _ALL_SECONDS,
    ) -> None:
        self._settings = settings
        self._title = title
        self._silence = silence
        self._patience = patience

    async def send(self, letter: Letter) -> None:
        """Hand a message over.

        Raises
        ------
        NotAllowedError
            The server will never take it.
        UnavailableError
            It does not take it now.
        ConfigError
            The password cannot be read.
        """
        password = await asyncio.to_thread(self._settings.password)
        message = self.message(letter)
        connection = _Connection(self._settings, self._silence)
        work = _in_thread(lambda: connection.hand_over(message, password))
        try:
            async with asyncio.timeout(self._patience):
                await work
        except TimeoutError as error:
            raise UnavailableError(
                f"The mail server {self._settings.host} took longer than {self._patience:.0f} s."
            ) from error
        finally:
            # A thread that still talks ends with its connection.
            connection.drop()

    def message(self, letter: Letter) -> EmailMessage:
        """Return a message: plain text, and the same as small HTML without anything that is fetched."""
        message = EmailMessage(policy=SMTP)
        host = self._settings.sender.rpartition("@")[2]
        # One line each: whoever chose a job's name must not write headers of this message.
        message["Subject"] = _line(letter.subject)[:200]
        message["From"] = formataddr((_line(self._title), self._settings.sender))
        message["To"] = as_address(letter.to)
        message["Date"] = format_datetime(letter.time)
        message["Message-ID"] = f"<{re.sub('[^A-Za-z0-9.-]', '-', letter.id)}@{host}>"
        # Nobody's holiday answers this.
        message["Auto-Submitted"] = "auto-generated"
        text = "\n\n".join([*letter.lines, letter.link, *filter(None, [letter.footer])])
        message.set_content(f"{text}\n")
        paragraphs = "".join(f"<p>{escape(line)}</p>" for line in letter.lines)
        link = f'<p><a href="{escape(letter.link)}">{escape(letter.link_text)}</a></p>'
        footer = f"<p><small>{escape(letter.footer)}</small></p>" if letter.footer else ""
        message.add_alternative(f"<html><body>{paragraphs}{link}{footer}</body></html>\n", subtype="html")
        return message


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


class _Connection:
    """One conversation with the server, which another thread may cut off."""

    def __init__(self, settings: MailSettings, silence: float) -> None:
        self._settings = settings
        self._silence = silence
        self._client: smtplib.SMTP | None = None

    def hand_over(self, message: EmailMessage, password: str) -> None:
        """Send the message, or say in a sentence why not."""
        host = f"The mail server {self._settings.host}"
        try:
            self._talk(message, password)
        except smtplib.SMTPAuthenticationError as error:
            raise UnavailableError(
                f"{host} does not accept the platform's password: tell an administrator."
            ) from error
        except smtplib.SMTPRecipientsRefused as error:
            code, said = next(iter(error.recipients.values()))
            kind = NotAllowedError if code >= _FOR_EVER else UnavailableError
            raise kind(f"{host} does not take mail for {message['To']} ({_said(said)}).") from error
        except smtplib.SMTPResponseException as error:
            raise UnavailableError(f"{host} refused ({_said(error.smtp_error)}).") from error
        except ssl.SSLError as error:
            raise UnavailableError(
                f"{host} cannot be trusted ({error.reason or 'no encryption'})."
            ) from error
        except smtplib.SMTPNotSupportedError as error:
            raise UnavailableError(f"{host} does not offer what the settings ask for ({error}).") from error
        except (OSError, smtplib.SMTPException) as error:
            # The library wraps the end of our patience in words of its own.
            silent = isinstance(error, TimeoutError) or "timed out" in str(error)
            why = "it is silent" if silent else _said(str(error)) or "it hung up"
            raise UnavailableError(f"{host} does not answer ({why}).") from error

    def _talk(self, message: EmailMessage, password: str) -> None:
        settings = self._settings
        # "localhost": nobody has to know the name of this machine.
        if settings.tls is MailEncryption.IMPLICIT:
            client: smtplib.SMTP = smtplib.SMTP_SSL(
                local_hostname="localhost", timeout=self._silence, context=self._trust()
            )
        else:
            client = smtplib.SMTP(local_hostname="localhost", timeout=self._silence)
        # Known before it connects, so that it can be dropped in the middle of it.
        self._client = client
        client._host = settings.host  # type: ignore[attr-defined]  # noqa: SLF001 - for the server's name in its certificate
        try:
            code, said = client.connect(settings.host, settings.port)
            if code != 220:  # noqa: PLR2004 - "ready", as the standard numbers it
                raise smtplib.SMTPConnectError(code, said)
            if settings.tls is MailEncryption.STARTTLS:
                client.starttls(context=self._trust())
            if settings.user is not None:
                client.login(settings.user, password)
            client.send_message(message, from_addr=settings.sender)
            # It has the message now: that it hangs up badly changes nothing.
            with contextlib.suppress(OSError, smtplib.SMTPException):
                client.quit()
        finally:
            client.close()

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._settings.certificates)

    def drop(self) -> None:
        """Cut it off, whatever it is doing."""
        open_socket = getattr(self._client, "sock", None)
        if open_socket is not None:
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)


def _said(text: bytes | str) -> str:
    """Return what a server said, as one short line."""
    plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return _line(plain)[:200]


def _in_thread(work: Callable[[], None]) -> asyncio.Future[None]:
    """Begin `work` in a thread of its own: one that hangs takes none that others wait for, and ends with the process."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - whoever awaits it gets it
            failure: BaseException | None = error
        else:
            failure = None
        if not future.set_running_or_notify_cancel():
            return
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)

    threading.Thread(target=run, name="mail", daemon=True).start()
    return asyncio.wrap_future(future)

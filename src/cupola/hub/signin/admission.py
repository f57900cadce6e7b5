"""Whether somebody may come in: the owner, whoever is on the allow-list, whom an administrator let in, whom a rule fits.

Nobody is let in by omission, and who is removed stays out whatever else says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from cupola.exceptions import ConflictError, NotAllowedError
from cupola.hub.signin.allowlist import AllowFile
from cupola.hub.signin.names import LINK, Identity, is_name, name_for
from cupola.hub.signin.people import Known, People
from cupola.models.base import now

if TYPE_CHECKING:
    from cupola.config import Config
    from cupola.hub.signin.people import Request

__all__ = ["Admission", "Entrance", "Proof", "Standing"]

LOCAL = "local"
_GRACE = timedelta(hours=72)
"""So long the sessions of somebody run on whose rule has to be looked at again."""


class Standing(StrEnum):
    """How somebody stands now."""

    INSIDE = "inside"
    LAPSED = "lapsed"
    """A rule let them in, and has to be looked at again: they must sign in anew, their sessions go on."""
    OUTSIDE = "outside"


@dataclass(frozen=True)
class Proof:
    """What a method found out about who came."""

    identity: Identity
    rule: str = ""
    """The rule of the method that lets them in; empty for none."""
    admin: bool | None = None
    """What the method's rules say of administrators; nothing where they say nothing."""
    mail: str = ""
    """The mail address that the provider has verified, where it tells one."""


@dataclass(frozen=True)
class Entrance:
    """Somebody may come in under this name."""

    name: str
    admin: bool


class Admission:
    """Decides who may come in.

    Parameters
    ----------
    config
        The platform's configuration.
    """

    def __init__(self, config: Config) -> None:
        self.settings = config.sign_in
        self.owner = config.owner
        # Without isolation only the owner may run anything: all sessions share one system account.
        self.others = config.compute != "process"
        self.people = People(config.paths.people)
        self._titles = {method.known_as: method.called for method in self.settings.methods}
        self._local = {method.known_as for method in self.settings.methods if method.kind == LOCAL}
        names = list(self._titles)
        plain = next(iter(self._local), "") or (names[0] if len(names) == 1 else "")
        self.list = AllowFile(self.settings.allow_list, names, plain)

    def prepare(self) -> None:
        """Take the owner's name, and read the allow-list.

        Raises
        ------
        ConfigError
            The list is wrong.
        UnavailableError
            The list of people cannot be written.
        """
        self.list.refresh()
        self.list.read()
        if self.people.find(self.owner) is None:
            self.people.bind(Identity(LINK, "", self.owner, self.owner), self.owner)

    @property
    def contact(self) -> str:
        """Whom people ask."""
        return self.settings.contact or "an administrator of this platform"

    def is_local(self, identity: Identity) -> bool:
        """Tell whether `identity` is an account of this platform."""
        return identity.method in self._local

    def enter(self, proof: Proof) -> Entrance:
        """Let somebody in and bind their name.

        Raises
        ------
        NotAllowedError
            They may not come in; says whom to ask.
        ConflictError
            Their name is somebody else's.
        """
        identity = proof.identity
        known = self.people.of(identity)
        if known is not None and known.identities and identity not in known.identities:
            self.people.seen(identity)
        name = (
            known.name if known else identity.login if self.is_local(identity) else name_for(identity.login)
        )
        if known is not None and known.removed:
            raise NotAllowedError(f"Your access has ended: ask {self.contact}.")
        if not self._welcome(proof, known):
            if not self.is_local(identity):  # a local account asked when it was made
                self.people.ask(identity, name)
            raise NotAllowedError(self._not_yet(identity))
        if known is None:
            try:
                known = self.people.bind(identity, name)
            except ConflictError:
                self.people.ask(identity, name)
                raise
        if proof.rule:
            self.people.let_in_by_rule(name, identity.method, admin=proof.admin)
            known = self.people.find(name) or known
        if proof.mail:
            self.people.keep_mail(name, proof.mail)
        return Entrance(name, self.admin(known))

    def _welcome(self, proof: Proof, known: Known | None) -> bool:
        if not self.others:
            return known is not None and known.name == self.owner
        if known is None and self.is_local(proof.identity):
            # Anybody can make an account with a name that is on the list: an administrator looks at each.
            return False
        if known is not None and (known.name == self.owner or known.admitted):
            return True
        return bool(proof.rule) or self.list.current.admin(proof.identity) is not None

    def _not_yet(self, identity: Identity) -> str:
        if self.is_local(identity):
            return f"Your account waits until it is approved: ask {self.contact}."
        title = self._titles.get(identity.method, identity.method)
        return (
            f"You are {identity.login} at {title}, but you have not been let in here yet: ask {self.contact}."
        )

    def enter_by_link(self, name: str) -> Entrance | None:
        """Return the entrance of whom a link names, if they may come in."""
        known = self.people.find(name)
        if known is None or self.standing(known) is not Standing.INSIDE:
            return None
        return Entrance(name, self.admin(known))

    def standing(self, known: Known | None) -> Standing:
        """Return how somebody stands now."""
        if known is not None and known.name == self.owner:
            return Standing.INSIDE
        if known is None or known.removed or not self.others:
            return Standing.OUTSIDE
        if known.admitted or self._listed(known):
            return Standing.INSIDE
        return self._standing_by_rule(known)

    def _standing_by_rule(self, known: Known) -> Standing:
        if known.rule not in self._titles or known.checked is None:
            return Standing.OUTSIDE
        age, held = now() - known.checked, timedelta(hours=self.settings.rule_hours)
        if age < held:
            return Standing.INSIDE
        return Standing.LAPSED if age < held + _GRACE else Standing.OUTSIDE

    def admin(self, known: Known) -> bool:
        """Tell whether somebody who may come in is an administrator; on the list, the list alone says so."""
        if known.name == self.owner:
            return True
        if self.standing(known) is Standing.OUTSIDE:
            return False
        flags = self._listed(known)
        return any(flags) if flags else known.admin

    def _listed(self, known: Known) -> list[bool]:
        """Return the flags of all entries of the list that are this person."""
        found = [self.list.current.admin(identity) for identity in known.identities]
        return [flag for flag in found if flag is not None]

    def approve(self, request: Request, name: str = "") -> Known:
        """Let in somebody who asked, as `name`, or the name they would get.

        Raises
        ------
        ConflictError
            The name is somebody else's.
        """
        identity = request.identity
        chosen = name or request.name
        if not is_name(chosen):
            raise ConflictError(
                f'"{chosen}" cannot be a user name: take small letters, digits, dots and hyphens, at most 64'
            )
        known = self.people.bind(identity, chosen)
        # Who is on the list came in by the list, and goes with it.
        if not self._listed(known):
            self.people.admit(chosen)
        return self.people.find(chosen) or known

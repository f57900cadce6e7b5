"""What programs need on this machine to reach package servers, for the builds of images.

It is handed over as one build secret, so that none of it ends in a layer: ``environments/base/host`` unpacks it into
memory at the start of a line that needs it.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path

from cupola.exceptions import StartError
from cupola.platform.storage.environments.indexes import index_settings, pip_settings

__all__ = ["RELEASE", "debian_sources", "write_host"]

RELEASE = "bookworm"
"""The release of Debian that images are made of."""
PLACE = "/dev/shm/host"  # noqa: S108 - memory of one line of a build
LARGEST = 500_000
"""BuildKit takes no larger secret."""

_BUNDLES = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT")
_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_TAKE_BUNDLE = (
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
)
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
_APT = ("Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::Retries")
_MAIN_SERVERS = re.compile(r"^https?://")


def write_host(file: Path) -> Path:
    """Write the secret to `file`, for this account only, and return it.

    Raises
    ------
    StartError
        If it would be larger than a secret may be.
    """
    parts = {"environment": "", "apt.conf": _apt_settings()}
    if bundle := _bundle():
        parts["ca.crt"] = bundle.read_text(encoding="utf-8", errors="replace")
    if sources := debian_sources():
        parts["sources.list"] = sources
    if npm := _npm_settings():
        parts["npmrc"] = npm
    parts["environment"] = _environment(set(parts))
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for folder in ("apt.conf.d", "sources.list.d"):  # programs complain where they are told of none
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, text in parts.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))
    if content.tell() > LARGEST:
        raise StartError(
            f"the certificates and settings of this machine take {content.tell() // 1000} kB, but a build takes at "
            f"most {LARGEST // 1000}: name a smaller bundle of certificates in SSL_CERT_FILE"
        )
    file.touch(mode=0o600, exist_ok=False)
    file.write_bytes(content.getvalue())
    return file


def _environment(parts: set[str]) -> str:
    """Return the variables as lines of a shell."""
    values = {"APT_CONFIG": f"{PLACE}/apt.conf"}
    if "ca.crt" in parts:
        values |= dict.fromkeys(_TAKE_BUNDLE, f"{PLACE}/ca.crt")
    if "npmrc" in parts:
        values["NPM_CONFIG_USERCONFIG"] = f"{PLACE}/npmrc"
    values |= {
        name: os.environ[name]
        for proxy in _PROXIES
        for name in (proxy, proxy.upper())
        if os.environ.get(name)
    }
    values |= _package_servers()
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())


def _package_servers() -> dict[str, str]:
    """Return where pip and uv look, without folders of this machine: a build does not see them."""
    asked = {
        **index_settings(),
        **{name: value for name, value in os.environ.items() if name.startswith("UV_")},
    }
    found = {}
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"):
        if urls := [
            word for word in asked.get(name, "").split() if _MAIN_SERVERS.match(word.rpartition("=")[2])
        ]:
            found[name] = " ".join(urls)
    for name in ("UV_INDEX_STRATEGY", "UV_INSECURE_HOST"):
        if name in asked:
            found[name] = asked[name]
    settings = pip_settings()
    for key, name in (("index-url", "PIP_INDEX_URL"), ("extra-index-url", "PIP_EXTRA_INDEX_URL")):
        if urls := [word for word in settings.get(key, "").split() if _MAIN_SERVERS.match(word)]:
            found[name] = " ".join(urls)
    if "trusted-host" in settings:
        found["PIP_TRUSTED_HOST"] = settings["trusted-host"]
    return found


def _bundle() -> Path | None:
    named = [Path(os.environ[name]) for name in _BUNDLES if os.environ.get(name)]
    return next((file for file in [*named, _BUNDLE] if file.is_file()), None)


def _apt_settings() -> str:
    lines = [
        f'Dir::Etc::Parts "{PLACE}/apt.conf.d";',
        # The downloads lie in a cache of the engine.
        'Binary::apt::APT::Keep-Downloaded-Packages "true";',
    ]
    if _bundle():
        lines.append(f'Acquire::https::CAInfo "{PLACE}/ca.crt";')
    if debian_sources():
        lines.append(f'Dir::Etc::SourceList "{PLACE}/sources.list";')
        lines.append(f'Dir::Etc::SourceParts "{PLACE}/sources.list.d";')
    if shutil.which("apt-config"):
        said = subprocess.run(
            ["apt-config", "dump", *_APT],  # noqa: S607 - the path is the administrator's
            stdin=subprocess.DEVNULL,
            check=False,
            capture_output=True,
            text=True,
        )
        lines += [line for line in said.stdout.splitlines() if line.endswith('";') and '""' not in line]
    return "\n".join(lines) + "\n"


def debian_sources(folder: Path = Path("/etc/apt")) -> str:
    """Return where this machine gets the packages of Debian 12, in one-line style; nothing where it is another system."""
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.list"))]
    lines = [
        re.sub(r"\[[^]]*\]\s*", "", line.strip())
        for file in files
        if file.is_file()
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip().startswith("deb ")
    ]
    for file in sorted((folder / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", file.read_text(encoding="utf-8", errors="replace")):
            lines += _lines_of(stanza)
    fitting = [line for line in lines if _of_debian(line)]
    # Updates alone are no system to build from.
    complete = any(line.split()[2] == RELEASE for line in fitting)
    return "".join(f"{line}\n" for line in dict.fromkeys(fitting)) if complete else ""


def _lines_of(stanza: str) -> list[str]:
    fields: dict[str, str] = {}
    for line in stanza.splitlines():
        key, colon, value = line.partition(":")
        if colon and not line.startswith(("#", " ", "\t")):
            fields[key.strip().lower()] = value.strip()
    if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
        return []
    return [
        f"deb {uri} {suite} {fields.get('components', '')}".rstrip()
        for uri in fields.get("uris", "").split()
        for suite in fields.get("suites", "").split()
    ]


def _of_debian(line: str) -> bool:
    """Tell whether a line is one of the distribution itself, and not of some other project."""
    words = line.split()
    suites = {RELEASE, f"{RELEASE}-updates", f"{RELEASE}-security", f"{RELEASE}-backports"}
    return len(words) > 3 and words[2] in suites and "main" in words[3:] and "debian" in words[1]  # noqa: PLR2004


def _npm_settings() -> str:
    """Return what npm is told on this machine about servers, without what else may stand in its file."""
    lines = []
    for file in (Path("/etc/npmrc"), Path.home() / ".npmrc"):
        if file.is_file():
            text = file.read_text(encoding="utf-8", errors="replace")
            kept = re.compile(r"^\s*(//|@[^:]+:registry|registry|proxy|https-proxy|noproxy|strict-ssl)")
            lines += [line for line in text.splitlines() if kept.match(line)]
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if os.environ.get(name):
            lines.append(f"registry={os.environ[name]}")
    return "".join(f"{line}\n" for line in lines)

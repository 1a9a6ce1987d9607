"""The other names of a name: Kubernetes short names, search suffixes, and the wildcards that these must be safe from.

Which entry gets a name that several could have is not decided here but in `claim`.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshdns.resolver.table.names import ancestors, to_key


def service_host(name: str, namespace: str, cluster_domain: str) -> str:
    """Return a Service's full name (Kubernetes DNS specification, section 2.3)."""
    return f"{name}.{namespace}.svc.{cluster_domain}"


def short_names(name: str, namespace: str, own_namespace: str) -> tuple[str, ...]:
    """Return the names by which a pod's search list finds a Service; without a namespace only for our own."""
    named = (f"{name}.{namespace}", f"{name}.{namespace}.svc")
    return (name, *named) if namespace == own_namespace else named


def search_keys(search: Iterable[str]) -> tuple[bytes, ...]:
    """Return the search suffixes as keys, longest first, each once. What is no name cannot be at a name's end."""
    keys = {key for suffix in search if (key := to_key(suffix)) is not None and key != b"\x00"}
    return tuple(sorted(keys, key=lambda key: (-len(key), key)))


def guarded_parents(cluster_domain: str, suffixes: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the parents whose wildcards would swallow every search-expanded outside name."""
    domain = to_key(cluster_domain)
    roots = [*suffixes] if domain is None else [domain, *suffixes]
    return tuple(sorted({b"\x00", *roots, *(parent for root in roots for parent in ancestors(root))}))

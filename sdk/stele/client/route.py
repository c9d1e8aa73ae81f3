"""Which endpoint to ask next. Pure: the clock comes in as an argument, in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from stele.client.errors import Invalid
from stele.client.limits import CLUSTER_REFRESH_S_MIN, ENDPOINT_DOWN_S, ENDPOINTS_MAX
from stele.client.models import ClusterStatus


def parse_endpoint(text: str) -> str:
    """ "host:port" or an http(s) URL without a path, as a URL without a trailing slash. Raises Invalid."""
    url = text.strip()
    if "://" not in url:
        url = f"http://{url}"
    parts = urlsplit(url)
    try:
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid or parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username:
        raise Invalid(f"{text!r} is not an endpoint; give http://host:port")
    return f"{parts.scheme}://{parts.netloc}"


class Route:
    """The endpoints given, the nodes learned from the cluster, and who was the leader last.

    The leader comes first, then the endpoint that answered last, then the others in their order;
    endpoints that refused a connection a moment ago come last, but are still tried.
    """

    def __init__(self, endpoints: Sequence[str], *, learns: bool = True) -> None:
        """Without `learns`, only the endpoints given are ever asked."""
        unique = tuple(dict.fromkeys(parse_endpoint(endpoint) for endpoint in endpoints))
        if not 1 <= len(unique) <= ENDPOINTS_MAX:
            raise Invalid(f"give between 1 and {ENDPOINTS_MAX} endpoints")
        self.endpoints = unique
        self._learns = learns
        self._url_of_node: dict[str, str] = {}
        self._leader_url: str | None = None
        self._last_good: str | None = None
        self._down_until_s: dict[str, float] = {}
        self._refresh_wanted = False
        self._refreshed_s: float | None = None

    @property
    def leader_url(self) -> str | None:
        """The endpoint of the node that led last, when that is known."""
        return self._leader_url

    def order(self, now_s: float) -> list[str]:
        """All endpoints, best first."""
        preferred = [url for url in (self._leader_url, self._last_good) if url is not None]
        urls = dict.fromkeys([*preferred, *self.endpoints, *self._url_of_node.values()])
        return sorted(urls, key=lambda url: self._down_until_s.get(url, 0.0) > now_s)

    def answered(self, url: str, node_id: str | None) -> None:
        """`url` answered; `node_id` is the node that did the work (X-Stele-Node), when it said so."""
        self._last_good = url
        self._down_until_s.pop(url, None)
        if node_id is None:
            return
        known = self._url_of_node.get(node_id)
        if known is None:
            self._refresh_wanted = True
        elif known != url:
            self._leader_url = known

    def led_by(self, node_id: str) -> None:
        """A problem named the leader."""
        known = self._url_of_node.get(node_id)
        if known is None:
            self._refresh_wanted = True
        else:
            self._leader_url = known

    def failed(self, url: str, now_s: float) -> None:
        """`url` could not be reached or broke off."""
        self._down_until_s[url] = now_s + ENDPOINT_DOWN_S
        if self._leader_url == url:
            self._leader_url = None
            self._refresh_wanted = True
        if self._last_good == url:
            self._last_good = None

    def refresh_due(self, now_s: float) -> bool:
        """Whether GET /v1/cluster would tell something that is missing."""
        if not self._refresh_wanted or not self._learns:
            return False
        return self._refreshed_s is None or now_s - self._refreshed_s >= CLUSTER_REFRESH_S_MIN

    def refresh_failed(self, now_s: float) -> None:
        """The list could not be fetched; it is tried again no sooner than the usual interval."""
        self._refreshed_s = now_s

    def learn(self, status: ClusterStatus, now_s: float) -> None:
        """Takes over the nodes and the leader of a cluster status."""
        self._refreshed_s = now_s
        self._refresh_wanted = False
        learned: dict[str, str] = {}
        for member in status.members[:ENDPOINTS_MAX]:
            try:
                learned[member.id] = parse_endpoint(member.http)
            except Invalid:
                continue  # a node that advertises nothing usable is reached through the others
        self._url_of_node = learned
        self._leader_url = learned.get(status.leader) if status.leader is not None else None

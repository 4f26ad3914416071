"""Nothing is sent to an address that is not public, however it is spelled, resolved or redirected."""

from __future__ import annotations

import socket

import pytest

from algo.notifications import addresses
from algo.notifications.addresses import AddressRefused, is_public, require_web_address
from algo.notifications.message import DeliveryFailed
from algo.notifications.webhook import webhook_send

SECRET = "a secret that the receiver knows"


@pytest.fixture
def reached(monkeypatch):
    """Where connections were opened to; none ever is."""
    made = []

    def connect(address, *_, **__):
        made.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(addresses.connection, "create_connection", connect)
    return made


@pytest.fixture
def resolver(monkeypatch):
    """Names and the answers they get, one after the other; what is no name here is resolved as ever."""
    answers: dict[str, list[list[str]]] = {}
    real = socket.getaddrinfo

    def lookup(host, port, *args, **kwargs):
        if host not in answers:
            return real(host, port, *args, **kwargs)
        found = answers[host].pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", lookup)
    return answers


def post(url):
    return webhook_send({}, url=url, secret=SECRET)


PRIVATE = "private, loopback or link-local"
UNUSUAL = "unusual spelling"

BAD = [
    ("https://127.0.0.1/", PRIVATE),
    ("https://127.255.255.254/", PRIVATE),
    ("https://127.1/", UNUSUAL),
    ("https://2130706433/", UNUSUAL),  # 127.0.0.1 as one decimal number
    ("https://017700000001/", UNUSUAL),  # as an octal one
    ("https://0x7f000001/", UNUSUAL),  # as a hexadecimal one
    ("https://0x7f.1/", UNUSUAL),
    ("https://0177.0.0.1/", UNUSUAL),
    ("https://127.0.0.0x1/", UNUSUAL),
    ("https://１２７.0.0.1/", PRIVATE),  # full-width digits
    ("https://①②⑦.0.0.1/", PRIVATE),
    ("https://0.0.0.0/", PRIVATE),
    ("https://0/", UNUSUAL),
    ("https://10.1.2.3/", PRIVATE),
    ("https://172.16.0.1/", PRIVATE),
    ("https://172.31.255.254/", PRIVATE),
    ("https://192.168.1.1/", PRIVATE),
    ("https://100.64.0.1/", PRIVATE),  # carrier-grade NAT
    ("https://169.254.169.254/latest/meta-data/", PRIVATE),  # the metadata of clouds
    ("https://192.0.0.192/", PRIVATE),
    ("https://192.0.2.1/", PRIVATE),
    ("https://198.18.0.1/", PRIVATE),
    ("https://224.0.0.1/", PRIVATE),
    ("https://240.0.0.1/", PRIVATE),
    ("https://255.255.255.255/", PRIVATE),
    ("https://[::]/", PRIVATE),
    ("https://[::1]/", PRIVATE),
    ("https://[::127.0.0.1]/", PRIVATE),  # IPv4-compatible
    ("https://[::ffff:127.0.0.1]/", PRIVATE),  # IPv4-mapped
    ("https://[::ffff:a9fe:a9fe]/", PRIVATE),  # 169.254.169.254, mapped
    ("https://[64:ff9b::7f00:1]/", PRIVATE),  # NAT64
    ("https://[64:ff9b:1::a00:1]/", PRIVATE),  # NAT64, local use
    ("https://[2002:7f00:1::]/", PRIVATE),  # 6to4 of 127.0.0.1
    ("https://[2002:a9fe:a9fe::1]/", PRIVATE),
    ("https://[2001:0:7f00:1::]/", PRIVATE),  # Teredo
    ("https://[fe80::1]/", PRIVATE),
    ("https://[fe80::1%25eth0]/", PRIVATE),
    ("https://[fec0::1]/", PRIVATE),
    ("https://[fc00::1]/", PRIVATE),
    ("https://[fd00:ec2::254]/", PRIVATE),  # metadata over IPv6
    ("https://[ff02::1]/", PRIVATE),
    ("https://[2001:db8::1]/", PRIVATE),
    ("https://localhost/", PRIVATE),
    ("https://LOCALHOST/", PRIVATE),
    ("https://localhost./", "end with a dot"),
    ("https://127.0.0.1./", "end with a dot"),
    ("https://example.com@127.0.0.1/", "user name or password"),
    ("https://user:pw@example.com/", "user name or password"),
    ("https://@127.0.0.1/", "user name or password"),
    ("https://example.com\\@127.0.0.1/", "backslash"),
    ("https://exam ple.com/", "space"),
    ("https://example.com\r\nHost: 127.0.0.1/", "control character"),
    ("https://example.com:22/", "port"),
    ("https://example.com:25/", "port"),
    ("https://example.com:0/", "port"),
    ("https://example.com:99999/", "port"),
    ("https://example.com:80:443/", "port"),
    ("https://[::1/", "must be a web address"),
    ("https://" + "a" * 3000 + ".example/", "too long"),
    ("http://example.com/", "must start with https"),
    ("ftp://example.com/", "must start with https"),
    ("file:///etc/passwd", "must start with https"),
    ("gopher://127.0.0.1:6379/_FLUSHALL", "must start with https"),
    ("//127.0.0.1/", "must start with https"),
    ("https://", "must start with https"),
    ("", "must start with https"),
]


@pytest.mark.parametrize(("url", "why"), BAD, ids=[repr(url[:40]) for url, _ in BAD])
def test_bad_address_is_refused_with_a_reason_and_nothing_is_sent(url, why, reached):
    with pytest.raises(DeliveryFailed, match="The address was refused") as caught:
        post(url)
    assert why in str(caught.value)
    assert reached == []


def test_the_list_is_long_enough_to_mean_something():
    assert len({url for url, _ in BAD}) >= 60


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "::1", "fe80::1"])
def test_name_that_leads_to_a_private_address_is_refused(address, reached, resolver):
    resolver["inside.example"] = [[address]]
    with pytest.raises(DeliveryFailed, match=r"inside\.example is, or leads to, a private"):
        post("https://inside.example/")
    assert reached == []


def test_one_private_answer_among_public_ones_is_enough_to_refuse(reached, resolver):
    resolver["mixed.example"] = [["1.1.1.1", "10.0.0.1"]]
    with pytest.raises(DeliveryFailed, match="private"):
        post("https://mixed.example/")
    assert reached == []


def test_name_is_looked_up_once_and_connected_to_as_looked_up(reached, resolver):
    """A name that answers with a public address first and a private one later never leads to the private one."""
    resolver["rebinding.example"] = [["1.1.1.1"], ["127.0.0.1"]]
    with pytest.raises(DeliveryFailed, match="could not be reached"):
        post("https://rebinding.example/")
    assert (reached, resolver["rebinding.example"]) == ([("1.1.1.1", 443)], [["127.0.0.1"]])
    with pytest.raises(DeliveryFailed, match="private"):  # the next try asks anew
        post("https://rebinding.example/")
    assert len(reached) == 1


@pytest.mark.parametrize("elsewhere", ["http://169.254.169.254/latest/", "http://127.0.0.1:{port}/inside", "//[::1]/"])
def test_redirect_is_not_followed(receiver, elsewhere):
    receiver.status = 307
    receiver.headers = {"Location": elsewhere.format(port=receiver.url.rsplit(":", 1)[1].partition("/")[0])}
    with pytest.raises(DeliveryFailed, match="the receiver answered 307"):
        webhook_send({}, url=receiver.url, secret=SECRET, allow_private=True)
    assert [path for path, _, _ in receiver.received] == ["/hook"]


def test_a_proxy_of_the_environment_is_not_used(receiver, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert webhook_send({}, url=receiver.url, secret=SECRET, allow_private=True) == 200


@pytest.mark.parametrize("url", ["https://example.com/", "https://example.com:8443/a?b=c", "https://1.1.1.1/hook"])
def test_plain_public_addresses_are_taken(url):
    require_web_address(url, allow_private=False)


@pytest.mark.parametrize("address", ["1.1.1.1", "185.141.133.1", "2606:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are_public(address):
    assert is_public(address)


def test_refusal_where_private_ones_are_allowed_is_about_the_form_alone():
    require_web_address("http://127.0.0.1:8000/", allow_private=True)
    with pytest.raises(AddressRefused):
        require_web_address("ftp://127.0.0.1/", allow_private=True)

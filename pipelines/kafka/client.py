"""Reaching the brokers: client settings, a bounded first contact, errors that name the address, topics."""

from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, ClassVar, Final

from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient

from features.errors import PortraitError
from pipelines.settings import Kafka, SettingsError, secret

_RETRY_S: Final = 0.25


class KafkaFailureError(PortraitError):
    """The brokers refused or failed; the message says what and what to do."""


class KafkaUnavailableError(KafkaFailureError):
    """No broker answered in time at the addresses of ``kafka.bootstrap_servers``."""


def client_config(kafka: Kafka) -> dict[str, Any]:
    """Settings → what every kafka-python client takes. Reads the secrets: never log or store the result.

    Raises SettingsError where a secret cannot be read.
    """
    security = kafka.security
    config: dict[str, Any] = {
        "bootstrap_servers": list(kafka.bootstrap_servers),
        "client_id": "portrait",
        "security_protocol": security.protocol,
        "bootstrap_timeout_ms": int(kafka.connect_timeout_s * 1000),
        "reconnect_backoff_max_ms": 1000,
    }
    if security.protocol.endswith("SSL"):
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
            path = getattr(security, name)
            config[name] = None if path is None else str(path)
        config["ssl_check_hostname"] = security.ssl_check_hostname
        config["ssl_password"] = secret(security.ssl_password) if security.ssl_password else None
    if security.protocol.startswith("SASL"):
        if not (security.sasl_mechanism and security.sasl_username and security.sasl_password):
            raise SettingsError(
                "kafka.security: expected sasl_mechanism, sasl_username and sasl_password for "
                f"{security.protocol}, got fewer; name all three"
            )
        config["sasl_mechanism"] = security.sasl_mechanism
        config["sasl_plain_username"] = secret(security.sasl_username)
        config["sasl_plain_password"] = secret(security.sasl_password)
    return config


def connect(kafka: Kafka, make: Callable[..., Any], **extra: Any) -> Any:
    """A client made by ``make(**config)`` once a broker answers.

    Raises KafkaUnavailableError after ``kafka.connect_timeout_s``, KafkaFailureError where the broker
    answers but refuses us.
    """
    witness = _Witness.install()
    config = client_config(kafka)
    version = _first_contact(kafka)
    if version is not None:
        config["api_version"] = version
    where = ", ".join(kafka.bootstrap_servers)
    made: list[KafkaNetClient] = []

    def net_client(**options: Any) -> KafkaNetClient:
        made.append(KafkaNetClient(**options))
        return made[-1]

    witness.refusal = ""
    try:
        return make(**config, **extra, kafka_client=net_client)
    except (kafka_errors.KafkaError, OSError) as error:
        for client in made:  # a constructor that fails leaves its thread and sockets behind
            client.close()
        if isinstance(error, kafka_errors.KafkaTimeoutError) and not witness.refusal:
            raise KafkaUnavailableError(
                f"kafka.bootstrap_servers: expected {kafka.security.protocol} to be spoken at {where}, got "
                f"no answer in {kafka.connect_timeout_s:g} s; check kafka.security and the address"
            ) from error
        raise KafkaFailureError(
            f"kafka.security: expected {where} to accept us by {kafka.security.protocol}, got "
            f"{witness.refusal or type(error).__name__}; check sasl_mechanism, what sasl_username and "
            "sasl_password refer to, and the certificate files"
        ) from error


class _Witness(logging.Filter):
    """Keeps kafka-python's log quiet, and remembers a refused login or handshake, which it only logs.

    Below WARNING it logs keys, values and the configuration with its password; while a broker is away,
    several errors a second. What matters is said by us: errors, and a warning at each failed discovery.
    """

    _LOGGERS: Final = (
        *(f"kafka.net.{name}" for name in ("manager", "connection", "transport", "selector")),
        "kafka.cluster",
        "kafka.consumer.fetcher",
    )
    _installed: ClassVar[_Witness | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.refusal = ""

    @classmethod
    def install(cls) -> _Witness:
        """The process's one witness."""
        if cls._installed is None:
            cls._installed = cls()
            logging.getLogger("kafka").setLevel(logging.WARNING)
            for name in cls._LOGGERS:
                logging.getLogger(name).addFilter(cls._installed)
        return cls._installed

    def filter(self, record: logging.LogRecord) -> bool:
        for argument in record.args if isinstance(record.args, tuple) else ():
            if isinstance(
                argument, kafka_errors.SaslAuthenticationFailedError | kafka_errors.AuthorizationError
            ):
                self.refusal = type(argument).__name__
            elif isinstance(argument, kafka_errors.KafkaConnectionError) and not self.refusal:
                # brokers often close before the reason arrives, on plain connections too when they want TLS
                self.refusal = "a closed connection"
        return record.levelno >= logging.CRITICAL


def _first_contact(kafka: Kafka) -> tuple[int, int] | None:
    """Wait for any broker to answer; the protocol version to assume, None where the client finds it."""
    deadline_s = time.monotonic() + kafka.connect_timeout_s
    reason = "no answer"
    while True:
        for address in kafka.bootstrap_servers:
            left_s = deadline_s - time.monotonic()
            try:
                return _ask(address, kafka.security.protocol, max(0.1, min(left_s, 5.0)))
            except TimeoutError:
                reason = "no answer"
            except OSError as error:
                reason = (error.strerror or type(error).__name__).lower()
        if time.monotonic() + _RETRY_S >= deadline_s:
            raise KafkaUnavailableError(
                f"kafka.bootstrap_servers: expected a broker at {', '.join(kafka.bootstrap_servers)}, got "
                f"{reason} in {kafka.connect_timeout_s:g} s; start it (make kafka-up) or correct the address"
            )
        time.sleep(_RETRY_S)


def _ask(address: str, protocol: str, timeout_s: float) -> tuple[int, int] | None:
    """Connect; on a plain listener also ask for the API versions (ApiVersions request, version 0).

    A broker that knows ApiVersions up to version 2 only is Kafka 2.0 to 2.3, or librdkafka's mock, whose
    answer to a newer request kafka-python cannot read: that version is then assumed, not asked for.
    """
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]") or address, int(port or 9092)), timeout_s) as broker:
        if protocol != "PLAINTEXT":
            return None
        broker.sendall(struct.pack(">ihhih8s", 18, 18, 0, 1, 8, b"portrait"))
        answer = _read(broker, struct.unpack(">i", _read(broker, 4))[0])
    _, failure, count = struct.unpack_from(">ihi", answer)
    if failure:
        return None
    versions = {key: most for key, _, most in struct.iter_unpack(">hhh", answer[10 : 10 + 6 * count])}
    return (2, 0) if versions.get(18) == 2 else None


def _read(broker: socket.socket, size: int) -> bytes:
    if not 0 <= size <= 1 << 16:
        raise ConnectionError("not a Kafka broker")
    parts = bytearray()
    while len(parts) < size:
        part = broker.recv(size - len(parts))
        if not part:
            raise ConnectionError("closed the connection")
        parts += part
    return bytes(parts)

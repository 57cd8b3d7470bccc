"""A real Apache Kafka for tests: one node (``infra/kafka``) on free loopback ports, in its own folder."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic  # type: ignore[attr-defined]  # it exports without __all__

from pipelines.settings import Kafka
from tests.support.infra_script import load_script, require_programs
from tests.support.ports import free_ports

SASL_USER = "portrait"
SASL_PASSWORD = "only-for-tests"  # noqa: S105 - of a node on loopback that lives as long as its test
_JAAS = "org.apache.kafka.common.security"


node_script = load_script("kafka")


class KafkaServer:
    """A running node, with what tests ask of one."""

    def __init__(self, node: Any, sasl_port: int, tls_port: int, certificate: Path) -> None:
        self.node = node
        self.bootstrap_servers = (node.address,)
        self.sasl_servers = (f"127.0.0.1:{sasl_port}",)
        self.tls_servers = (f"127.0.0.1:{tls_port}",)
        self.certificate = certificate
        self._numbers = itertools.count()

    def settings(self, **changes: Any) -> Kafka:
        """Settings that lead here; a group of its own unless one is given."""
        group = f"group-{next(self._numbers)}"
        return Kafka(**{"bootstrap_servers": self.bootstrap_servers, "group_id": group} | changes)

    @contextmanager
    def admin(self) -> Iterator[KafkaAdminClient]:
        client = KafkaAdminClient(bootstrap_servers=list(self.bootstrap_servers))
        try:
            yield client
        finally:
            client.close()

    def new_topic(self, partitions: int = 4, name: str | None = None, **configs: str) -> str:
        """Create a topic that no other test uses; its name."""
        name = name or f"topic-{next(self._numbers)}"
        with self.admin() as admin:
            admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
            admin.wait_for_topics([name])
        return name

    def stop(self) -> None:
        self.node.stop()

    def kill(self) -> None:
        self.node.kill()

    def start(self) -> None:
        self.node.start()


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate of 127.0.0.1; with its key in ``broker.pem`` beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    (folder / "broker.pem").write_text(key.read_text() + certificate.read_text())
    return certificate


@contextmanager
def running_kafka(folder: Path) -> Iterator[KafkaServer]:
    """Start a node that listens without and with a login (PLAIN and SCRAM-SHA-512), and with TLS as well."""
    require_programs(node_script)
    port, controller_port, sasl_port, tls_port = free_ports(4)
    certificate = make_certificate(folder)
    login = f'username="{SASL_USER}" password="{SASL_PASSWORD}"'
    plain = f'{_JAAS}.plain.PlainLoginModule required {login} user_{SASL_USER}="{SASL_PASSWORD}";'
    extra = {
        "listeners": f"BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port},"
        f"SASL://127.0.0.1:{sasl_port},TLS://127.0.0.1:{tls_port}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,"
        "SASL:SASL_PLAINTEXT,TLS:SASL_SSL",
        "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.sasl.plain.sasl.jaas.config": plain,
        "listener.name.tls.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.tls.plain.sasl.jaas.config": plain,
        "listener.name.tls.ssl.keystore.type": "PEM",
        "listener.name.tls.ssl.keystore.location": str(certificate.with_name("broker.pem")),
        "listener.name.sasl.scram-sha-512.sasl.jaas.config": f"{_JAAS}.scram.ScramLoginModule required;",
        "auto.create.topics.enable": "false",
        # Aborting what a test left open must not take Kafka's minute.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    }
    scram = f"SCRAM-SHA-512=[name={SASL_USER},password={SASL_PASSWORD}]"
    node = node_script.Node(folder, port, controller_port, extra, ("--add-scram", scram))
    node.start()
    try:
        yield KafkaServer(node, sasl_port, tls_port, certificate)
    finally:
        node.kill()


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """One node for all tests; each test makes its own topics and leaves the node running."""
    with running_kafka(tmp_path_factory.mktemp("kafka")) as server:
        yield server

"""The guard that keeps the tests off the network is itself tested."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from refused_sockets import SocketRefusedError

CONNECT = "import socket; socket.create_connection(('127.0.0.1', {port}), timeout=5).close()"


@pytest.fixture
def listening_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.mark.parametrize("host", ["192.0.2.1", "127.0.0.1", "localhost"])
def test_a_connection_is_refused(host, listening_port):
    with socket.socket() as client, pytest.raises(SocketRefusedError, match=f"{host}.* refused"):
        client.connect((host, listening_port))


@pytest.mark.parametrize("look_up", [socket.gethostbyname, lambda host: socket.getaddrinfo(host, 80)])
def test_a_name_look_up_is_refused(look_up):
    with pytest.raises(SocketRefusedError, match=r"example\.org"):
        look_up("example.org")


def test_a_datagram_is_refused():
    with socket.socket(type=socket.SOCK_DGRAM) as client, pytest.raises(SocketRefusedError):
        client.sendto(b"", ("192.0.2.1", 53))


def test_a_unix_socket_is_allowed(tmp_path, monkeypatch):
    # the path of a Unix socket may have 107 bytes, which a temporary folder can exceed
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("socket")
        server.listen()
        client.connect("socket")


def test_a_child_process_is_refused_too(listening_port):
    child = subprocess.run(
        [sys.executable, "-c", CONNECT.format(port=listening_port)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 1
    assert "SocketRefusedError" in child.stderr


@pytest.mark.loopback
def test_a_marked_test_reaches_its_own_server():
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        client = http.client.HTTPConnection("localhost", server.server_port, timeout=10)
        client.request("HEAD", "/")
        assert client.getresponse().status == 501
        client.close()
        thread.join()


@pytest.mark.loopback
def test_a_marked_test_reaches_loopback_from_a_child_process(listening_port):
    subprocess.run([sys.executable, "-c", CONNECT.format(port=listening_port)], check=True)


@pytest.mark.loopback
def test_a_marked_test_is_refused_everything_else():
    with socket.socket() as client, pytest.raises(SocketRefusedError):
        client.connect(("192.0.2.1", 80))


def test_a_notebook_kernel_starts_and_its_cells_are_refused():
    cell = nbformat.v4.new_code_cell("import socket; socket.gethostbyname('localhost')")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    with pytest.raises(CellExecutionError, match="SocketRefusedError"):
        NotebookClient(notebook, timeout=60, kernel_name="python3").execute()

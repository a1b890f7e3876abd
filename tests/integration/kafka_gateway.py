"""A gateway in front of a Kafka broker that requires TLS, a certificate of the client, and SASL.

The broker that the tests can install has neither. SASL: RFC 4616 (PLAIN), RFC 5802 and 7677 (SCRAM).
SIGUSR1 freezes all connections: they stay open, and nothing passes any more. New ones are not affected.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import signal
import ssl
import struct
import sys

API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE = 18, 17, 36
UNSUPPORTED_SASL_MECHANISM, SASL_AUTHENTICATION_FAILED = 33, 58
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

port, broker_port, certificate, key, user, password = sys.argv[1:]
flowing: list[asyncio.Event] = []


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(length)


def frame(payload: bytes) -> bytes:
    return struct.pack(">i", len(payload)) + payload


def sasl_answers(mechanism: str):
    """A generator that takes the client's messages, and yields the server's: `None` if it refuses the client."""
    message = yield b""
    if mechanism == "PLAIN":
        yield b"" if message == f"\0{user}\0{password}".encode() else None
        return
    algorithm = "sha" + mechanism.removeprefix("SCRAM-SHA-")
    client_first = message.decode().removeprefix("n,,")
    name, nonce = (part[2:] for part in client_first.split(",")[:2])
    salt, iterations = os.urandom(16), 4096
    server_first = f"r={nonce}server,s={base64.b64encode(salt).decode()},i={iterations}"
    client_final = (yield server_first.encode()).decode()
    unproved, proof = client_final.rsplit(",p=", 1)
    signed = f"{client_first},{server_first},{unproved}".encode()
    salted = hashlib.pbkdf2_hmac(algorithm, password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", algorithm)
    signature = hmac.digest(hashlib.new(algorithm, client_key).digest(), signed, algorithm)
    expected = bytes(left ^ right for left, right in zip(client_key, signature))
    if name != user or base64.b64decode(proof) != expected:
        yield None
        return
    verifier = hmac.digest(hmac.digest(salted, b"Server Key", algorithm), signed, algorithm)
    yield b"v=" + base64.b64encode(verifier)


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


async def authenticate(reader, writer, broker_reader, broker_writer) -> bool:
    """Passes requests for the broker's versions, and answers those of SASL. Whether the client is accepted."""
    answers, is_last = None, False
    while True:
        payload = await read_frame(reader)
        api, version, correlation = struct.unpack(">hhi", payload[:8])
        if api == API_VERSIONS:
            broker_writer.write(frame(payload))
            writer.write(frame(await read_frame(broker_reader)))
            continue
        head = struct.pack(">i", correlation)
        (client_id_length,) = struct.unpack(">h", payload[8:10])
        body = payload[10 + max(client_id_length, 0) :]
        if api == SASL_HANDSHAKE:
            mechanism = body[2:].decode()
            error = 0 if mechanism in MECHANISMS else UNSUPPORTED_SASL_MECHANISM
            names = b"".join(map(text, MECHANISMS))
            writer.write(frame(head + struct.pack(">hi", error, len(MECHANISMS)) + names))
            answers = sasl_answers(mechanism)
            next(answers)
        elif api == SASL_AUTHENTICATE and answers is not None:
            # Version 2 has compact lengths and tags; a message here is shorter than 127 bytes, or has two bytes.
            if version < 2:
                message = body[4:]
            else:
                body = body[1:]
                message = body[1:-1] if body[0] < 128 else body[2:-1]
            answer = answers.send(message)
            is_last = answer is not None and (answer == b"" or answer.startswith(b"v="))
            error = SASL_AUTHENTICATION_FAILED if answer is None else 0
            answer = answer or b""
            if version < 2:
                lifetime = struct.pack(">q", 0) if version == 1 else b""
                rest = struct.pack(">hhi", error, -1, len(answer)) + answer + lifetime
            else:
                length = len(answer) + 1
                compact = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
                rest = b"\0" + struct.pack(">h", error) + b"\0" + compact + answer + struct.pack(">q", 0) + b"\0"
            writer.write(frame(head + rest))
            if is_last or error:
                return is_last
        else:
            return False


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flow: asyncio.Event) -> None:
    while data := await reader.read(65536):
        await flow.wait()
        writer.write(data)
        await writer.drain()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    flow = asyncio.Event()
    flow.set()
    flowing.append(flow)
    broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", int(broker_port))
    try:
        if await authenticate(reader, writer, broker_reader, broker_writer):
            await asyncio.gather(forward(reader, broker_writer, flow), forward(broker_reader, writer, flow))
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()
        broker_writer.close()


async def main() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: [flow.clear() for flow in flowing])
    server = await asyncio.start_server(serve, "127.0.0.1", int(port), ssl=context)
    print("listening", flush=True)
    await server.serve_forever()


asyncio.run(main())

"""A client that learns the protocol from the server: reflection, one batch, receipts, and the totals by REST.

Usage: reflection_client.py INGEST_ADDRESS API_ADDRESS
"""

import json
import sys
import time
import urllib.error
import urllib.request

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

SERVICE = "pulso.v1.IngestService"


def read(url: str) -> dict:
    """Reads with patience: the server may answer 504 until the position is folded."""
    for attempt in range(100):
        try:
            with urllib.request.urlopen(url, timeout=20) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            if error.code != 504 or attempt == 99:
                raise
    raise AssertionError("not reached")


def main(ingest: str, api: str) -> None:
    channel = grpc.insecure_channel(ingest)
    reflection = ProtoReflectionDescriptorDatabase(channel)
    services = reflection.get_services()
    assert SERVICE in services and "grpc.health.v1.Health" in services, services
    pool = descriptor_pool.DescriptorPool(reflection)
    message = lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
    request_type, answer_type = message("pulso.v1.SendPulsesRequest"), message("pulso.v1.SendPulsesResponse")
    method = pool.FindServiceByName(SERVICE).methods_by_name["SendPulses"]
    assert method.input_type.full_name == "pulso.v1.SendPulsesRequest", method

    send = channel.unary_unary(
        f"/{SERVICE}/SendPulses",
        request_serializer=request_type.SerializeToString,
        response_deserializer=answer_type.FromString,
    )
    now = int(time.time())
    pulses = [
        dict(
            id=f"outside-{now}-{number}",
            tenant_id="outside",
            product_sku="reflection",
            used_amount="0.125",
            use_unit="Requests",
            occurred_at=dict(seconds=now - 60),
        )
        for number in range(10)
    ]
    pulses.append(dict(pulses[0], id="", used_amount="1e5"))
    answer = send(request_type(pulses=pulses), timeout=20)
    accepted = [result for result in answer.results if result.status == 1]
    assert len(accepted) == 10 and len(answer.results) == 11, answer
    assert answer.results[10].reason == "EMPTY_ID" and answer.results[10].field == "id", answer.results[10]
    last = accepted[-1].receipt

    wait_for = f"{last.generation}:{last.partition}:{last.offset}"
    usage = read(f"http://{api}/v1/tenants/outside/usage?granularity=month&wait_for={wait_for}")["usage"]
    assert [(row["quantity"], row["count"]) for row in usage] == [("1.25", 10)], usage
    print(f"reflection client: {len(accepted)} receipts, the last {wait_for}; usage 1.25")


if __name__ == "__main__":
    main(*sys.argv[1:])

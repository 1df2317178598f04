"""A client that learns the protocol from the server: reflection, one batch, receipts, and the totals by REST.

Usage: reflection_client.py INGEST_ADDRESS API_ADDRESS
"""

import json
import sys
import time
import urllib.request

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

SERVICE = "pulso.v1.IngestService"


def main(ingest: str, api: str) -> None:
    channel = grpc.insecure_channel(ingest)
    reflection = ProtoReflectionDescriptorDatabase(channel)
    services = reflection.get_services()
    assert SERVICE in services and "grpc.health.v1.Health" in services, services
    pool = descriptor_pool.DescriptorPool(reflection)
    message = lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
    request_type, answer_type = message("pulso.v1.SendPulsesRequest"), message("pulso.v1.SendPulsesResponse")
    assert pool.FindServiceByName(SERVICE).methods_by_name["SendPulses"].input_type.full_name == "pulso.v1.SendPulsesRequest"

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
            occurred_at=Timestamp(seconds=now - 60),
        )
        for number in range(10)
    ]
    pulses.append(dict(pulses[0], id="", used_amount="1e5"))
    answer = send(request_type(pulses=pulses), timeout=20)
    accepted = [result for result in answer.results if result.status == 1]
    assert len(accepted) == 10 and len(answer.results) == 11, answer
    assert answer.results[10].reason == "EMPTY_ID" and answer.results[10].field == "id", answer.results[10]
    last = accepted[-1].receipt

    url = f"http://{api}/v1/tenants/outside/usage?granularity=month&wait_for={last.generation}:{last.partition}:{last.offset}"
    with urllib.request.urlopen(url, timeout=20) as response:
        usage = json.load(response)["usage"]
    assert [(row["quantity"], row["count"]) for row in usage] == [("1.25", 10)], usage
    print(f"reflection client: {len(accepted)} receipts, the last {last.generation}:{last.partition}:{last.offset}; usage 1.25")


if __name__ == "__main__":
    main(*sys.argv[1:])

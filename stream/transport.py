"""The transport of the worker, `batchkafka://`: Faust's Kafka driver with our consumer and producer."""

from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver

from stream.consumer import Consumer
from stream.producer import Producer


class BatchSchema(faust.Schema[Any, Any]):
    """Hands fetched records through untouched; Faust would decode them one by one."""

    def loads_key(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> None:
        return None

    def loads_value(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:
        return message.value


class Transport(driver.Transport):
    """Found by Faust under the URL scheme `batchkafka`."""

    Consumer = Consumer
    Producer = Producer

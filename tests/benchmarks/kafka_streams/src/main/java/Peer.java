import ai.onnxruntime.OrtSession;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.state.Stores;

/**
 * The same work as plain_faust.py in Kafka Streams, as its guide teaches: a processor with a RocksDB store that has a
 * changelog and a record cache, one event at a time. No dead letters, no late events, no duplicates.
 */
public final class Peer {
    private static final int STATES_MAX_USERS = 100_000; // as the worker's INTEREST_STATE_CACHE_USERS

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 7) {
            System.err.println(
                "expected BROKER EVENTS_TOPIC UPDATE_TOPIC CATALOG_DIR STATE_DIR PARTITIONS GUARANTEE, got "
                    + arguments.length + " arguments");
            System.exit(2);
        }
        Path folder = Path.of(arguments[3]);
        int partitions = Integer.parseInt(arguments[5]);
        Catalog catalog = Catalog.read(folder.resolve("catalog.tsv"));
        OrtSession session = Encoder.open(folder.resolve("encoder.onnx"));
        CountDownLatch assigned = new CountDownLatch(partitions);
        CountDownLatch running = new CountDownLatch(1);
        CountDownLatch ended = new CountDownLatch(1);

        Topology topology = new Topology();
        topology.addSource(
            "events", Serdes.Bytes().deserializer(), Serdes.ByteArray().deserializer(), arguments[1]);
        topology.addProcessor(
            "interest", () -> new Interest(catalog, session, assigned, STATES_MAX_USERS / partitions), "events");
        topology.addStateStore(
            Stores.keyValueStoreBuilder(
                    Stores.persistentKeyValueStore(Interest.STORE), Serdes.Bytes(), Serdes.ByteArray())
                .withLoggingEnabled(Map.of())
                .withCachingEnabled(),
            "interest");
        topology.addSink(
            "updates", arguments[2], Serdes.Bytes().serializer(), Serdes.ByteArray().serializer(), "interest");

        KafkaStreams streams = new KafkaStreams(topology, settings(arguments));
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.RUNNING) {
                running.countDown();
            } else if (now == KafkaStreams.State.ERROR || now == KafkaStreams.State.NOT_RUNNING) {
                ended.countDown();
            }
        });
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(30))));
        streams.start();
        assigned.await();
        running.await();
        System.out.println("ready");
        System.out.flush();
        ended.await();
        if (streams.state() == KafkaStreams.State.ERROR || streams.state() == KafkaStreams.State.PENDING_ERROR) {
            System.exit(1);
        }
    }

    private static Properties settings(String[] arguments) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[4]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, arguments[6]);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        // Of two threads or one, with the record cache or without, two with it had the highest figure on two cores
        // (80,000 events of the Taobao slice: 16,274 events/s; the others 13,124 to 15,002): runs overlap.
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64L << 20);
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 1 << 18);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 100);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "none");
        // To try another setting: -Dstreams.NAME=VALUE
        for (String name : System.getProperties().stringPropertyNames()) {
            if (name.startsWith("streams.")) {
                settings.put(name.substring("streams.".length()), System.getProperty(name));
            }
        }
        return settings;
    }
}

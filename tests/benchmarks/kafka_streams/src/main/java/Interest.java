import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.StreamWriteFeature;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/** One partition's work: an event to its user's window, the window to a vector, the vector to an update. */
final class Interest implements Processor<Bytes, byte[], Bytes, byte[]> {
    static final String STORE = "windows";
    private static final JsonFactory JSON =
        JsonFactory.builder().enable(StreamWriteFeature.USE_FAST_DOUBLE_WRITER).build();

    private final Catalog catalog;
    private final OrtSession session;
    private final CountDownLatch ready;
    private final Map<Bytes, float[]> states; // after the last event of the users' windows
    private final float[] vector;
    private final ByteArrayOutputStream json = new ByteArrayOutputStream(2048);
    private Encoder encoder;
    private ProcessorContext<Bytes, byte[]> context;
    private KeyValueStore<Bytes, byte[]> windows;

    Interest(Catalog catalog, OrtSession session, CountDownLatch ready, int users) {
        this.catalog = catalog;
        this.session = session;
        this.ready = ready;
        vector = new float[catalog.dim];
        states = new LinkedHashMap<>(16, 0.75f, true) {
            @Override
            protected boolean removeEldestEntry(Map.Entry<Bytes, float[]> eldest) {
                return size() > users;
            }
        };
    }

    @Override
    public void init(ProcessorContext<Bytes, byte[]> context) {
        this.context = context;
        windows = context.getStateStore(STORE);
        states.clear(); // a task that comes back may find its windows changed
        try {
            encoder = new Encoder(session, catalog);
        } catch (OrtException error) {
            throw new IllegalStateException(error);
        }
        ready.countDown();
    }

    @Override
    public void process(Record<Bytes, byte[]> record) {
        try {
            Event event = Event.parse(record.value());
            Bytes user = record.key();
            Window window = Window.append(windows.get(user), event, catalog.types);
            windows.put(user, window.bytes);
            float[] kept = window.cut ? null : states.get(user);
            states.put(user, encoder.encode(window, kept, vector));
            // The time of the update, not the event's: the benchmark reads when the last one was made.
            context.forward(new Record<>(user, update(event, window), System.currentTimeMillis()));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        } catch (OrtException error) {
            throw new IllegalStateException(error);
        }
    }

    private byte[] update(Event event, Window window) throws IOException {
        json.reset();
        try (JsonGenerator out = JSON.createGenerator(json)) {
            out.writeStartObject();
            out.writeStringField("user_id", event.user);
            out.writeNumberField("version", window.version());
            out.writeNumberField("timestamp", event.timestamp);
            out.writeStringField("model", catalog.model);
            out.writeNumberField("events", window.events());
            out.writeArrayFieldStart("vector");
            for (float number : vector) {
                out.writeNumber(number);
            }
            out.writeEndArray();
            out.writeEndObject();
        }
        return json.toByteArray();
    }
}

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/**
 * The model: one step from a user's kept states, or the whole window. Inputs and outputs are tensors over direct buffers
 * that are made once and filled again, so that a call copies nothing on its way to the graph. Not for two threads at once.
 */
final class Encoder {
    private final OrtEnvironment environment;
    private final OrtSession session;
    private final Catalog catalog;
    private final Map<String, FloatBuffer> before = new HashMap<>(); // by the state's name
    private final Map<String, FloatBuffer> after = new HashMap<>();
    private final Map<String, OnnxTensor> states = new HashMap<>();
    private final Map<String, OnnxTensor> outputs = new HashMap<>();
    private final FloatBuffer vector;
    private final Steps[] steps = new Steps[Window.MAX_EVENTS + 1];
    private final int width; // of all states together

    static OrtSession open(Path graph) throws OrtException {
        try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
            options.setIntraOpNumThreads(1);
            options.setInterOpNumThreads(1);
            return OrtEnvironment.getEnvironment().createSession(graph.toString(), options);
        }
    }

    Encoder(OrtSession session, Catalog catalog) throws OrtException {
        environment = OrtEnvironment.getEnvironment();
        this.session = session;
        this.catalog = catalog;
        int total = 0;
        for (Map.Entry<String, Integer> state : catalog.states.entrySet()) {
            long[] shape = {1, state.getValue()};
            before.put(state.getKey(), floats(state.getValue()));
            after.put(state.getKey(), floats(state.getValue()));
            states.put(state.getKey(), OnnxTensor.createTensor(environment, before.get(state.getKey()), shape));
            outputs.put(
                "next_" + state.getKey(), OnnxTensor.createTensor(environment, after.get(state.getKey()), shape));
            total += state.getValue();
        }
        width = total;
        vector = floats(catalog.dim);
        outputs.put("vector", OnnxTensor.createTensor(environment, vector, new long[] {1, catalog.dim}));
    }

    /** Writes the window's vector to `into`; returns the states after it. `kept` (or null) are those before its last. */
    float[] encode(Window window, float[] kept, float[] into) throws OrtException {
        int count = kept == null ? window.events() : 1;
        if (steps[count] == null) {
            steps[count] = new Steps(count);
        }
        steps[count].fill(window);
        int at = 0;
        for (Map.Entry<String, Integer> state : catalog.states.entrySet()) {
            FloatBuffer buffer = before.get(state.getKey());
            for (int index = 0; kept == null && index < state.getValue(); index++) {
                buffer.put(index, 0);
            }
            if (kept != null) {
                buffer.put(0, kept, at, state.getValue());
            }
            at += state.getValue();
        }
        session.run(steps[count].tensors, outputs).close();
        float[] states = kept == null ? new float[width] : kept;
        at = 0;
        for (Map.Entry<String, Integer> state : catalog.states.entrySet()) {
            after.get(state.getKey()).get(0, states, at, state.getValue());
            at += state.getValue();
        }
        vector.get(0, into);
        return states;
    }

    private static FloatBuffer floats(int count) {
        return direct(4 * count).asFloatBuffer();
    }

    private static ByteBuffer direct(int bytes) {
        return ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder());
    }

    /** The inputs of a call with so many steps. */
    private final class Steps {
        final Map<String, OnnxTensor> tensors = new HashMap<>(states);
        private final int count;
        private final LongBuffer item;
        private final LongBuffer category;
        private final LongBuffer type;
        private final FloatBuffer gap;
        private final FloatBuffer price;
        private final FloatBuffer quantity;
        private final FloatBuffer rating;

        Steps(int count) throws OrtException {
            this.count = count;
            item = longs("item_index");
            category = longs("category_index");
            type = longs("event_type");
            gap = reals("gap");
            price = reals("price");
            quantity = reals("quantity");
            rating = reals("rating");
            if (catalog.inputs.contains("text")) { // zeros: this peer, as the plain Faust one, reads no review
                long[] shape = {1, count, catalog.textWidth};
                tensors.put(
                    "text", OnnxTensor.createTensor(environment, floats(count * catalog.textWidth), shape));
            }
            IntBuffer length = direct(4).asIntBuffer().put(0, count);
            tensors.put("length", OnnxTensor.createTensor(environment, length, new long[] {1}));
        }

        private LongBuffer longs(String name) throws OrtException {
            LongBuffer buffer = direct(8 * count).asLongBuffer();
            if (catalog.inputs.contains(name)) {
                tensors.put(name, OnnxTensor.createTensor(environment, buffer, new long[] {1, count}));
            }
            return buffer;
        }

        private FloatBuffer reals(String name) throws OrtException {
            FloatBuffer buffer = floats(count);
            if (catalog.inputs.contains(name)) {
                tensors.put(name, OnnxTensor.createTensor(environment, buffer, new long[] {1, count}));
            }
            return buffer;
        }

        void fill(Window window) {
            int first = window.events() - count;
            for (int step = 0; step < count; step++) {
                int event = first + step;
                item.put(step, catalog.item(window.item(event)));
                category.put(step, catalog.category(window.category(event), window.item(event)));
                type.put(step, window.type(event));
                gap.put(step, window.gap(event));
                price.put(step, window.price(event));
                quantity.put(step, window.quantity(event));
                rating.put(step, window.rating(event));
            }
        }
    }
}

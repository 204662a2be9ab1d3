import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;

/**
 * A user's latest events as the store keeps them: the version (8 bytes), then 32 bytes an event, oldest first: timestamp
 * 8, hash of the item 8, of the event's id 8, of the category 4, type 1, ten times the rating 1, price 1, quantity 1.
 */
final class Window {
    static final int MAX_EVENTS = 50;
    private static final int KEPT_EVENTS = 25;
    private static final int HEAD_BYTES = 8;
    private static final int EVENT_BYTES = 32;

    final byte[] bytes;
    /** Whether events left it when the newest came. */
    final boolean cut;
    private final ByteBuffer view;

    private Window(byte[] bytes, boolean cut) {
        this.bytes = bytes;
        this.cut = cut;
        view = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    }

    /** The window that `stored` (null: none) becomes with one event more. */
    static Window append(byte[] stored, Event event, List<String> types) {
        int before = stored == null ? 0 : (stored.length - HEAD_BYTES) / EVENT_BYTES;
        boolean cut = before == MAX_EVENTS;
        int kept = cut ? KEPT_EVENTS - 1 : before;
        Window window = new Window(new byte[HEAD_BYTES + EVENT_BYTES * (kept + 1)], cut);
        ByteBuffer view = window.view;
        if (stored != null) {
            view.putLong(0, ByteBuffer.wrap(stored).order(ByteOrder.LITTLE_ENDIAN).getLong(0) + 1);
            int bytes = EVENT_BYTES * kept;
            System.arraycopy(stored, stored.length - bytes, window.bytes, HEAD_BYTES, bytes);
        } else {
            view.putLong(0, 1);
        }
        view.position(HEAD_BYTES + EVENT_BYTES * kept);
        view.putLong(event.timestamp);
        view.putLong(Hash.of64(event.item));
        view.putLong(event.id == null ? 0 : Hash.of64(event.id));
        view.putInt(event.category == null ? 0 : Hash.of32(event.category));
        view.put((byte) Math.max(0, types.indexOf(event.type)));
        view.put((byte) Math.rint(10 * event.rating));
        view.put(amountCode(event.price));
        view.put(amountCode(event.quantity));
        return window;
    }

    /** 0 for none (below 0), else 1 + round(8 · log2(1 + amount)), at most 255. */
    private static byte amountCode(double amount) {
        return amount < 0 ? 0 : (byte) Math.min(255, 1 + Math.rint(8 * Math.log(1 + amount) / Math.log(2)));
    }

    /** log2(1 + amount) of a code, -1 for none. */
    private static float amountLog2(byte code) {
        return code == 0 ? -1 : ((code & 0xff) - 1) / 8f;
    }

    long version() {
        return view.getLong(0);
    }

    int events() {
        return (bytes.length - HEAD_BYTES) / EVENT_BYTES;
    }

    private static int at(int event, int offset) {
        return HEAD_BYTES + EVENT_BYTES * event + offset;
    }

    long timestamp(int event) {
        return view.getLong(at(event, 0));
    }

    long item(int event) {
        return view.getLong(at(event, 8));
    }

    int category(int event) {
        return view.getInt(at(event, 24));
    }

    int type(int event) {
        return view.get(at(event, 28));
    }

    float rating(int event) {
        return view.get(at(event, 29)) / 10f;
    }

    float price(int event) {
        return amountLog2(view.get(at(event, 30)));
    }

    float quantity(int event) {
        return amountLog2(view.get(at(event, 31)));
    }

    /** Seconds since the event before, -1 for the window's first. */
    float gap(int event) {
        return event == 0 ? -1 : (float) ((timestamp(event) - timestamp(event - 1)) / 1000.0);
    }
}

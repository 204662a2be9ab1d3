import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** The model's items, categories, event types, inputs and states, as java_peer.py wrote them to catalog.tsv. */
final class Catalog {
    String model;
    int dim;
    int textWidth;
    final List<String> inputs = new ArrayList<>();
    final Map<String, Integer> states = new LinkedHashMap<>(); // name -> width
    final List<String> types = new ArrayList<>(); // entry 0: "other"
    private final Map<Long, int[]> items = new HashMap<>(); // hash of the id -> row, row of its category
    private final Map<Integer, Integer> categories = new HashMap<>(); // hash of the id -> row

    static Catalog read(Path file) throws IOException {
        Catalog catalog = new Catalog();
        try (BufferedReader lines = Files.newBufferedReader(file)) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                catalog.add(line.split("\t", -1), line);
            }
        }
        return catalog;
    }

    private void add(String[] cells, String line) {
        switch (cells[0]) {
            case "model" -> model = cells[1];
            case "dim" -> dim = Integer.parseInt(cells[1]);
            case "text" -> textWidth = Integer.parseInt(cells[1]);
            case "input" -> inputs.add(cells[1]);
            case "state" -> states.put(cells[1], Integer.parseInt(cells[2]));
            case "type" -> types.add(cells[1]);
            case "category" -> categories.put(Hash.of32(cells[1]), Integer.parseInt(cells[2]));
            case "item" ->
                items.put(Hash.of64(cells[1]), new int[] {Integer.parseInt(cells[2]), Integer.parseInt(cells[3])});
            default -> throw new IllegalArgumentException("catalog.tsv: a line of an unknown kind: " + line);
        }
    }

    /** The item's row; 0: unknown. */
    int item(long hash) {
        int[] rows = items.get(hash);
        return rows == null ? 0 : rows[0];
    }

    /** The row of the event's category, or where that is unknown of its item's; 0: neither. */
    int category(int hash, long item) {
        Integer row = hash == 0 ? null : categories.get(hash);
        if (row != null) {
            return row;
        }
        int[] rows = items.get(item);
        return rows == null ? 0 : rows[1];
    }
}

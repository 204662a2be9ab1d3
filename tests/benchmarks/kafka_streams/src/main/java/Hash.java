/** FNV-1a of a string's characters; never 0, which a window keeps for "none". */
final class Hash {
    private Hash() {}

    static long of64(String text) {
        long hash = 0xcbf29ce484222325L;
        for (int at = 0; at < text.length(); at++) {
            hash = (hash ^ text.charAt(at)) * 0x100000001b3L;
        }
        return hash == 0 ? 1 : hash;
    }

    static int of32(String text) {
        long hash = of64(text);
        int folded = (int) (hash ^ hash >>> 32);
        return folded == 0 ? 1 : folded;
    }
}

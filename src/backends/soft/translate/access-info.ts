/** The `info` argument of the slow memory functions: size in bytes, then the segment, then these. */
export const INFO_SEGMENT_SHIFT = 8;
export const INFO_WRITE = 1 << 16;
export const INFO_USER = 1 << 17;
export const INFO_SYSTEM = 1 << 18;

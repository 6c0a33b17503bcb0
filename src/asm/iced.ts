export type Iced = typeof import("iced-x86");

let loaded: Iced | undefined;

/** iced-x86, loaded on first use: importing it costs about 30 ms, and a script may never assemble anything. */
export function iced(): Iced {
  loaded ??= require("iced-x86") as Iced;
  return loaded;
}

import type { BackendName } from "../index.ts";

/** The systems that have each backend's engine, as `process.platform` names them. */
export const PLATFORMS: Readonly<Record<BackendName, readonly string[] | "any">> = {
  kvm: ["linux"],
  nvmm: ["netbsd", "dragonfly"],
  soft: "any",
};

/** Whether this system could have the backend's engine. */
export function isOfThisSystem(backend: BackendName): boolean {
  const platforms = PLATFORMS[backend];
  return platforms === "any" || platforms.includes(process.platform);
}

/** Everything ffi/kvm/ exports, found by reading the folder, so that a new declaration cannot escape the comparison. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { Fields, Struct } from "../../../ffi/struct.ts";

export interface Declarations {
  /** `KVM_RUN` → 44672n: requests and constants. */
  readonly constants: ReadonlyMap<string, bigint>;
  /** By C tag. */
  readonly structs: ReadonlyMap<string, Struct<Fields>>;
}

const FOLDER = join(import.meta.dir, "../../../ffi/kvm");

export async function readDeclarations(): Promise<Declarations> {
  const constants = new Map<string, bigint>();
  const structs = new Map<string, Struct<Fields>>();
  for (const file of readdirSync(FOLDER).filter((name) => name.endsWith(".ts"))) {
    const exported: Record<string, unknown> = await import(join(FOLDER, file));
    for (const [name, value] of Object.entries(exported)) {
      if (typeof value === "number" || typeof value === "bigint") constants.set(name, BigInt(value));
      else if (isStruct(value)) structs.set(value.name, value);
      else throw new TypeError(`Cannot compare "${name}" of ${file} with C as it is neither a constant nor a struct`);
    }
  }
  return { constants, structs };
}

function isStruct(value: unknown): value is Struct<Fields> {
  return typeof value === "object" && value !== null && "offsets" in value && "fields" in value;
}

/** What C is asked: `sizeof kvm_run`, `offsetof kvm_run.io.port`, `sizeof kvm_run.io.port`, `KVM_RUN`. */
export function declaredValues({ constants, structs }: Declarations): Map<string, bigint> {
  const values = new Map(constants);
  for (const [tag, layout] of structs) {
    values.set(`sizeof ${tag}`, BigInt(layout.size));
    for (const [path, place] of Object.entries(layout.offsets)) {
      values.set(`offsetof ${tag}.${path}`, BigInt(place.offset));
      // A flexible array member has no sizeof.
      if (place.size > 0) values.set(`sizeof ${tag}.${path}`, BigInt(place.size));
    }
  }
  return values;
}

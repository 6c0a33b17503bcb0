import type * as iced from "iced-x86";
import { CODES, NAMES } from "./generated/names.ts";

/**
 * iced's enumerations with their types, but without iced's JavaScript, which takes 25 ms to load. A form that is missing
 * from `Code` is added by running names.generate.ts.
 */
function enumeration<T>(names: string): T {
  const values: Record<string, number> = {};
  let next = 0;
  for (const name of names.split(" ")) values[name] = next++;
  return values as T;
}

export const Code = CODES as unknown as Pick<typeof iced.Code, keyof typeof CODES>;
export type Code = iced.Code;
export const Mnemonic = enumeration<typeof iced.Mnemonic>(NAMES.Mnemonic);
export type Mnemonic = iced.Mnemonic;
export const Register = enumeration<typeof iced.Register>(NAMES.Register);
export type Register = iced.Register;
export const OpKind = enumeration<typeof iced.OpKind>(NAMES.OpKind);
export type OpKind = iced.OpKind;
export const FlowControl = enumeration<typeof iced.FlowControl>(NAMES.FlowControl);
export type FlowControl = iced.FlowControl;
export const ConditionCode = enumeration<typeof iced.ConditionCode>(NAMES.ConditionCode);
export type ConditionCode = iced.ConditionCode;
export const EncodingKind = enumeration<typeof iced.EncodingKind>(NAMES.EncodingKind);
export type EncodingKind = iced.EncodingKind;
export const MemorySize = enumeration<typeof iced.MemorySize>(NAMES.MemorySize);
export type MemorySize = iced.MemorySize;

import { contract } from "./contract.ts";
import { engine } from "./engine.ts";

contract(engine("soft"));

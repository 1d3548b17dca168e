//! Why a law is not asked of one side.

/** Of the broker itself. */
export const TAKES = 'Mosquitto 2.0.11 takes it';
